"""Fills the tables of README.md and docs/ from what was measured, so that no figure is typed by hand.

    python docs/generate.py           rewrite
    python docs/generate.py --check   exit 1 if a page is out of date

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("corruptions", "data", "performance")),
    *sorted((ROOT / "recipes").glob("*/README.md")),
)
sys.path[:0] = [str(ROOT / "benchmarks" / folder) for folder in ("", "generalization", "continual")]
import continual_summary  # noqa: E402
import summary  # noqa: E402
import vanished_summary  # noqa: E402
from chained_runs import read_rows  # noqa: E402
from summary import (  # noqa: E402
    adapter_table,
    arm_table,
    class_group_table,
    figure_table,
    query_table,
    text_table,
)

from queryseg.data.class_table import class_table, table_names  # noqa: E402
from queryseg.data.corruptions import CORRUPTIONS, SEVERITIES  # noqa: E402
from queryseg.data.data_file import LAYOUTS, layout_class  # noqa: E402
from queryseg.data.label_space import declared_mappings  # noqa: E402
from queryseg.data.layouts.layout import Layout  # noqa: E402
from queryseg.evaluation.markdown_report import markdown_table  # noqa: E402


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def generalization_rows() -> list[dict[str, Any]]:
    return read_rows(summary.RESULTS)


def percent(score: float | None) -> str:
    return "–" if score is None else f"{100 * score:.1f}"


def domains() -> str:
    """mIoU of the demo on every domain beside the pixel classifier."""
    demo = read(ROOT / "recipes" / "qprompt_r1" / "expected.json")["demo"]["measured"]["mean_iou"]
    pixel = read(RESULTS / "pixel_classifier.json")["results"]
    by_pixel = {name: pixel["mean_iou"][name] for name in demo}
    lines = [[name.replace("_", " "), percent(score), percent(by_pixel[name])] for name, score in demo.items()]
    return markdown_table(["domain", "QPrompt, from scratch", "one pixel, its 5×5 mean and position"], lines)


def promises() -> str:
    """What was promised, what was measured, and by which command."""
    criterion = read(RESULTS / "criterion.json")["results"]
    loading = read(RESULTS / "loading.json")["results"]
    lines = [
        *speeds(),
        [
            "set criterion in a training step, ViT-S/16, 512², batch 4",
            f"≤ {criterion['promised_share_at_most']:.0%}",
            f"{criterion['criterion_share_of_step']:.1%}",
            "`benchmarks/criterion.py`",
        ],
        [
            "its time over Hugging Face's Mask2Former loss",
            "",
            f"{criterion['criterion_over_huggingface']:.2f} ×",
            "`benchmarks/criterion.py`",
        ],
        [
            "decoding and training transforms over decoding alone, 1914×1052 PNG pair",
            "≤ 1.50 ×",
            f"{loading['ratio']:.2f} ×",
            "`benchmarks/loading.py`",
        ],
    ]
    counted = read(RESULTS / "metrics.json")["results"]
    together = "pixels, trimap 1 and 3, Boundary IoU, panoptic quality and calibration, ms per 1024×2048 image"
    for kind, what in (("streets_ms", together), ("clutter_ms", "the same, blocks of 4×4 pixels in random classes")):
        limit = f"≤ {counted['promised_together_ms_at_most']:.0f}"
        lines.append([what, limit, f"{counted[kind]['together']:.0f}", "`benchmarks/metrics.py`"])
    memory = read(RESULTS / "metrics_memory.json")["results"]
    lines.append(
        [
            f"the same, memory after {memory['images']:,} images with all intervals, MB above the start",
            f"≤ {memory['promised_mb_at_most']}",
            f"{memory['most_mb_intervals_included']:.0f}",
            "`benchmarks/metrics.py --memory`",
        ]
    )
    glass = read(RESULTS / "corruptions.json")["results"]["glass_blur"]["loop_ratio"]
    lines.append(
        ["glass blur over the usual loop over pixels", "≥ 8 ×", f"{glass:.0f} ×", "`benchmarks/corruptions.py`"]
    )
    lines += [*grqa_step(), *faseg(), *text_to_pixel(), *simcis_step(), *adapters()]
    for promise, entry in read(RESULTS / "streets_domains.json")["results"].items():
        what, limit = promise.split(", ")
        sign = {"at most ": "≤ ", "at least ": "≥ "}
        limit = next((limit.replace(word, mark) for word, mark in sign.items() if word in limit), limit)
        lines.append([f"demo: {what}", limit, f"{entry['measured']:.1f}", "`benchmarks/streets_domains.py`"])
    return markdown_table(["what", "promised", "measured", "command"], lines)


def ratio_line(what: str, entry: Any, script: str, kind: str = "ratio") -> list[str]:
    """A promised ratio and the one measured, with quartiles where there are any."""
    low, high = entry.get(f"{kind}_quartiles", (None, None))
    quartiles = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    limit, ratio = entry[f"promised_{kind}_at_most"], entry[kind]
    return [what, f"≤ {limit:.2f} ×", f"{ratio:.2f} ×{quartiles}", f"`benchmarks/{script}.py`"]


def grqa_step() -> list[list[str]]:
    what = "training step with GRQA over without, ViT-S/16, 512², batch 4"
    found = read(RESULTS / "grqa_step.json")["results"]
    return [ratio_line(f"{what}, {name.replace('_', ' ')}", entry, "grqa_step") for name, entry in found.items()]


def faseg() -> list[list[str]]:
    """FASeg beside Mask2Former."""
    found = read(RESULTS / "faseg.json")["results"]
    share = f"{found['memory']['hrca'] / found['memory']['vanilla']:.2f} ×"
    what = "memory of a training step, HRCA over attention to the whole finest level"
    return [
        ratio_line("FASeg over Mask2Former, ResNet-50, 512², one image", found["forward"], "faseg"),
        [what, "< 1 ×", share, "`benchmarks/faseg.py`"],
    ]


def text_to_pixel() -> list[list[str]]:
    what = "tqdm's pixel decoder over the same without text-to-pixel attention"
    trunks = {"clip_b": "CLIP ViT-B/16", "eva02_l": "EVA02-CLIP-L/14"}
    found = read(RESULTS / "tqdm.json")["results"]["forward"]
    return [ratio_line(f"{what}, {title}", found[name], "text_to_pixel") for name, title in trunks.items()]


def simcis_step() -> list[list[str]]:
    what = "a later task's training step over plain training, SimCIS's ResNet-50"
    found = read(RESULTS / "simcis_step.json")["results"]
    titles = {name: name.replace("simcis", "SimCIS").replace("_", " ") for name in found if "ratio" in found[name]}
    return [ratio_line(f"{what}: {title}", found[name], "simcis_step") for name, title in titles.items()]


def adapters() -> list[list[str]]:
    what = "memory of a training step over full fine-tuning's, ViT-L/16, 512², trunk"
    found = read(RESULTS / "adapters.json")["results"]["linear"]
    promised = [name for name in found if "promised_memory_ratio_at_most" in found[name]]
    return [ratio_line(f"{what}: {name}", found[name], "adapters", "memory_ratio") for name in promised]


def pseudo_labels(file: str, varied: str) -> str:
    """How many segments become pseudo-labels, and how many of those are right, by kind of query. varied: of the rows"""
    by_run = read(RESULTS / f"{file}.json")["results"]
    runs = {name.split("/")[1]: found for name, found in by_run.items()}
    titles = [f"{run} queries, {share}" for run in runs for share in ("found", "right")]
    lines = [
        [limit, *(percent(found[limit][share]) for found in runs.values() for share in ("found", "right"))]
        for limit in next(iter(runs.values()))
    ]
    return markdown_table([varied, *titles], lines)


def crowding() -> str:
    """How many queries outline a segment, how sure the surest is, and what the focal loss lets one expect."""
    found = read(RESULTS / "crowding.json")
    runs = {name.split("/")[1]: one for name, one in found["results"].items()}
    undecided = found["protocol"]["undecided_score"]
    lines = []
    for number, expected in undecided.items():
        groups = [one["by_queries"].get(number) for one in runs.values()]
        cells = [cell for group in groups for cell in shown_group(group)]
        last = number == list(undecided)[-1]
        lines.append([f"{number} or more" if last else number, *cells, f"{'at most ' if last else ''}{expected:.2f}"])
    titles = [title for run in runs for title in (f"{run} queries: segments", "score")]
    return markdown_table(["queries on a segment", *titles, "score if undecided"], lines)


def shown_group(group: dict[str, Any] | None) -> tuple[str, str]:
    return ("0", "") if group is None else (str(group["segments"]), f"{group['score']:.2f}")


def remembered() -> str:
    """What virtual queries and queries of real segments score of classes that later images do not show, by step."""
    found = read(RESULTS / "remembered.json")["results"]
    lines = []
    for folder, scores in found.items():
        cells = [folder.rpartition("_")[2]]
        for one in map(scores.get, vanished_summary.VANISHED):
            cells += [f"{one[kind]:.2f}" for kind in ("virtual", "real")]
            cells.append(f"{one['called']} ({one['so_called']} of {one['segments']})")
        lines.append(cells)
    kinds = ("virtual", "real", "real ones are called")
    titles = [f"{name}: {kind}" for name in vanished_summary.VANISHED for kind in kinds]
    return markdown_table(["after step", *titles], lines)


def speeds() -> list[list[str]]:
    """Rows about whole paths on a CPU; commands in docs/performance.md."""
    eager, compiled, exports = (
        {one["name"].removeprefix("gtav.yaml") or "own": one for one in read(RESULTS / f"{name}.json")["candidates"]}
        for name in ("whole_path", "whole_path_compiled", "exports")
    )

    def rival(name: str) -> str:
        pairs = zip(rounds(exports["hf:eomt_small"]), rounds(exports[name]), strict=True)
        return f"{median(theirs / ours for theirs, ours in pairs):.2f} ×"

    what = "whole path (uint8 → labels) over the bare timm backbone in eager float32, ViT-S/16, 512×1024"
    against = "the same, compiled against compiled"
    lines = [
        [what, "≤ 1.20 ×", times(eager["own"])],
        [against, "≤ 1.12 ×", times(compiled["own"])],
        ["the same: weights and peak of memory", "≤ 1.50 ×", memory(eager["own"])],
        ["the same, masks in strips of 256 patches: memory", "≤ 1.25 ×", memory(exports["@strips:256"])],
        ["the same, exported: OpenVINO fp32", "≤ 0.95 ×", times(exports["@openvino:fp32"])],
        ["the same, exported: OpenVINO bf16", "≤ 0.54 ×", times(exports["@openvino:bf16"])],
        ["the same, exported: OpenVINO int8 and bf16", "≤ 0.42 ×", times(exports["@openvino:int8"])],
        [
            "Hugging Face's EoMT with its own processing over QPrompt, both eager float32",
            "≥ 1.50 ×",
            rival("own"),
        ],
        ["the same over QPrompt in OpenVINO fp32", "≥ 1.50 ×", rival("@openvino:fp32")],
    ]
    return [[*line, "`queryseg benchmark`"] for line in lines]


def times(candidate: Any) -> str:
    """Median of the rounds' ratios, with quartiles."""
    ratio = candidate["ratios"]["infer"]
    return f"{ratio['median']:.2f} × [{ratio['quartile_1']:.2f}, {ratio['quartile_3']:.2f}]"


def memory(candidate: Any) -> str:
    """Weights and peak over those of the bare backbone."""
    return f"{candidate['ratios']['memory']:.2f} ×"


def rounds(candidate: Any) -> list[float]:
    """Milliseconds."""
    return list(candidate["times"]["infer"]["rounds_ms"])


def exports() -> str:
    """The same weights in every form, as shares of the bare backbone and of the run itself."""
    lines = []
    for one in read(RESULTS / "exports.json")["candidates"]:
        source = one["ratios"].get("infer_to_source")
        infer = one["times"]["infer"]
        form = one["name"].removeprefix("gtav.yaml").removeprefix("@").replace(":", " ") or "torch, eager"
        to_source = "–" if source is None else f"{source['median']:.2f} ×"
        lines.append([form, one["precision"], f"{infer['p50_ms']:.0f}", times(one), to_source])
    return markdown_table(["form", "precision", "ms", "× bare backbone", "× eager"], lines)


def parity() -> str:
    """Worst test set of every file."""
    lines = []
    for data, models in read(RESULTS / "export_parity.json")["results"].items():
        for model, precisions in models.items():
            cells = {p: (min(r["agreement"] for r in rows.values()), worst(rows)) for p, rows in precisions.items()}
            shown = {p: f"{100 * agreement:.2f} %, {change:+.2f}" for p, (agreement, change) in cells.items()}
            texts = [shown.get(p, "–") for p in ("fp32", "bf16", "int8")]
            lines.append([data, model, *texts])
    return markdown_table(["trained on", "run", "fp32", "bf16", "int8 and bf16"], lines)


def worst(rows: Any) -> float:
    """Most points of mIoU lost."""
    return min(100 * (row["mean_iou_file"] - row["mean_iou_run"]) for row in rows.values())


def ladder() -> str:
    """Arms of one backbone, and the paper's images per second at ViT-L on a GPU."""
    paper = {"Mask2Former": 11, "− pixel decoder": 25, "MLP head": 55, "QPrompt": 54}
    candidates = read(RESULTS / "ladder.json")["candidates"]
    own = next(one for one in candidates if one["name"] == "ladder: QPrompt")
    lines = []
    for one in candidates:
        name = one["name"].removeprefix("ladder: ").replace("gtav.yaml", "QPrompt-R1 (gtav.yaml)")
        speed = own["times"]["infer"]["p50_ms"] / one["times"]["infer"]["p50_ms"]
        published = f"{paper[name] / paper['QPrompt']:.2f}" if name in paper else "–"
        memory = f"{one['ratios']['memory']:.2f} ×"
        lines.append([name, times(one), f"{speed:.2f}", published, f"{one['ratios']['flops']:.2f} ×", memory])
    head = ["candidate", "time × bare", "speed, QPrompt = 1", "the paper's FPS, QPrompt = 1", "FLOPs", "memory"]
    return markdown_table(head, lines)


def camvid() -> str:
    """mIoU on real images beside the protocol."""
    entry = read(ROOT / "recipes" / "qprompt_r1" / "expected.json")["camvid"]
    measured = entry["measured"]
    lines = [[name, percent(score)] for name, score in measured["mean_iou"].items()]
    return f"{entry['protocol']}\n\n" + markdown_table(["CamVid", "mIoU"], lines)


def corruptions() -> str:
    """The constants of every corruption and severity."""
    lines = []
    for name, corruption in CORRUPTIONS.items():
        rows = [c if isinstance(c, tuple) else (c,) for c in corruption.constants]
        texts = [", ".join(str(int(x)) if isinstance(x, bool) else f"{x:g}" for x in row) for row in rows]
        lines.append([f"`{name}`", corruption.group, corruption.meaning, *texts])
    return markdown_table(["corruption", "group", "constants", *map(str, SEVERITIES)], lines)


def data_sets() -> list[type[Layout]]:
    return [found for name in LAYOUTS if issubclass(found := layout_class(name), Layout)]


def layouts() -> str:
    """What every layout reads, from its card."""
    lines = []
    for layout in data_sets():
        card = layout.card
        unsure = [f"`{source.name}`" for source in card.sources if source.unverified]
        verified = f"all but {', '.join(unsure)}" if unsure else "yes"
        lines.append(
            [
                f"`{layout.layout_name()}`",
                card.title,
                ", ".join(
                    f"{name} ({card.num_images[name]:,})" if name in card.num_images else name for name in card.splits
                ),
                ", ".join(dict.fromkeys(f"`{source.name}`" for source in card.sources)),
                f"`{card.native}`",
                "no" if card.unverified or len(unsure) == len(card.sources) else verified,
                card.download,
            ]
        )
    titles = ["layout", "data set", "splits (images)", "`labels`", "classes", "verified", "what to download"]
    unsure = [
        f"- `{layout.layout_name()}`, {name}: {text}"
        for layout in data_sets()
        for name, text in [
            ("all", layout.card.unverified),
            *((f"`{source.name}`", source.unverified) for source in layout.card.sources),
        ]
        if text
    ]
    return markdown_table(titles, lines) + "\n\nWhat is unverified:\n\n" + "\n".join(unsure)


def class_tables() -> str:
    """Sizes of the class tables."""
    tables = [class_table(name) for name in table_names()]
    return markdown_table(
        ["table", "classes", "things among them"],
        [[f"`{table.name}`", str(len(table)), str(len(table.things))] for table in tables],
    )


def mappings() -> str:
    """All declared mappings in one sentence."""
    return ", ".join(f"`{source}` → `{target}`" for source, target in declared_mappings()) + "."


def trees() -> str:
    """The docstrings of the layouts' files."""
    parts = []
    for layout in data_sets():
        text = (sys.modules[layout.__module__].__doc__ or "").strip()
        first, _, rest = text.partition("\n")
        title = first.partition(": ")[2].rstrip(".")
        parts.append(
            f"### `{layout.layout_name()}`\n\n{title[0].upper()}{title[1:]}.\n\n```\n{rest.strip(chr(10))}\n```\n"
        )
    return "\n".join(parts)


TABLES: dict[str, Callable[[], str]] = {
    "domains": domains,
    "promises": promises,
    "exports": exports,
    "ladder": ladder,
    "parity": parity,
    "camvid": camvid,
    "corruptions": corruptions,
    "arms": lambda: arm_table(generalization_rows(), "streets"),
    "figures": lambda: figure_table(generalization_rows(), "streets"),
    "queries": lambda: query_table(generalization_rows()),
    "layouts": layouts,
    "class_tables": class_tables,
    "mappings": mappings,
    "trees": trees,
    "class_groups": lambda: class_group_table(generalization_rows()),
    "adapters": lambda: adapter_table(generalization_rows()),
    "texts": lambda: text_table(generalization_rows()),
    "thresholds": lambda: pseudo_labels("pseudo_labels", "score above"),
    "overlaps": lambda: pseudo_labels("pseudo_labels_semantic", "keeps more than"),
    "crowding": crowding,
    "vanished": lambda: vanished_summary.vanished_table(read_rows(vanished_summary.RESULTS)),
    "remembered": remembered,
    "continual": lambda: continual_summary.summary(read_rows(continual_summary.RESULTS), 3),
    "camvid_arms": lambda: arm_table(generalization_rows(), "camvid"),
}


def filled(text: str) -> str:
    def table(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> int:
    stale = [page for page in PAGES if filled(page.read_text()) != page.read_text()]
    if "--check" in sys.argv:
        for page in stale:
            print(f"{page.relative_to(ROOT)} is out of date; run `make docs`.")
        return int(bool(stale))
    for page in stale:
        page.write_text(filled(page.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
