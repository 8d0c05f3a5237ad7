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
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md", ROOT / "recipes" / "qprompt_r1" / "README.md")
sys.path.insert(0, str(ROOT / "benchmarks" / "generalization"))
from summary import arm_table, figure_table, markdown, query_table, read_rows  # noqa: E402


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def percent(score: float | None) -> str:
    return "–" if score is None else f"{100 * score:.1f}"


def domains() -> str:
    """mIoU of the demo on every domain beside the pixel classifier."""
    demo = read(ROOT / "recipes" / "qprompt_r1" / "expected.json")["demo"]["measured"]["mean_iou"]
    pixel = read(RESULTS / "pixel_classifier.json")["results"]
    by_pixel = {name: pixel["mean_iou"][name] for name in demo}
    lines = [[name.replace("_", " "), percent(score), percent(by_pixel[name])] for name, score in demo.items()]
    return markdown(["domain", "QPrompt, from scratch", "one pixel, its 5×5 mean and position"], lines)


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
    steps = read(RESULTS / "grqa_step.json")["results"]
    for setting, entry in steps.items():
        what = f"training step with GRQA over without, ViT-S/16, 512², batch 4, {setting.replace('_', ' ')}"
        limit, ratio = f"≤ {entry['promised_ratio_at_most']:.2f} ×", f"{entry['ratio']:.2f} ×"
        lines.append([what, limit, ratio, "`benchmarks/grqa_step.py`"])
    if (RESULTS / "adapters.json").exists():
        for arm, entry in read(RESULTS / "adapters.json")["results"]["linear"].items():
            if "promised_memory_ratio_at_most" in entry:
                what = f"memory of a training step over full fine-tuning's, ViT-L/16, 512², trunk: {arm}"
                limit, ratio = f"≤ {entry['promised_memory_ratio_at_most']:.2f} ×", f"{entry['memory_ratio']:.2f} ×"
                lines.append([what, limit, ratio, "`benchmarks/adapters.py`"])
    for promise, entry in read(RESULTS / "streets_domains.json")["results"].items():
        what, limit = promise.split(", ")
        sign = {"at most ": "≤ ", "at least ": "≥ "}
        limit = next((limit.replace(word, mark) for word, mark in sign.items() if word in limit), limit)
        lines.append([f"demo: {what}", limit, f"{entry['measured']:.1f}", "`benchmarks/streets_domains.py`"])
    return markdown(["what", "promised", "measured", "command"], lines)


def speeds() -> list[list[str]]:
    """Rows about whole paths on a CPU; commands in docs/performance.md."""
    eager, compiled, exports, ladder = (
        {one["name"].removeprefix("gtav.yaml") or "own": one for one in read(RESULTS / f"{name}.json")["candidates"]}
        for name in ("whole_path", "whole_path_compiled", "exports", "ladder")
    )
    what = "whole path (uint8 → labels) over the bare timm backbone in eager float32, ViT-S/16, 512×1024"
    against = "the same, compiled against compiled"
    lines = [
        [what, "≤ 1.20 ×", times(eager["own"])],
        [against, "≤ 1.12 ×", times(compiled["own"])],
        ["the same: weights and peak of memory", "≤ 1.50 ×", f"{eager['own']['ratios']['memory']:.2f} ×"],
        ["the same, exported: OpenVINO fp32", "≤ 0.95 ×", times(exports["@openvino:fp32"])],
        ["the same, exported: OpenVINO bf16", "≤ 0.54 ×", times(exports["@openvino:bf16"])],
        ["the same, exported: OpenVINO int8 and bf16", "≤ 0.42 ×", times(exports["@openvino:int8"])],
        ["the same: Hugging Face's EoMT with its own processing", "", times(ladder["hf:eomt_small"])],
    ]
    return [[*line, "`queryseg benchmark`"] for line in lines]


def times(candidate: Any) -> str:
    """Median of the rounds' ratios, with quartiles."""
    ratio = candidate["ratios"]["infer"]
    return f"{ratio['median']:.2f} × [{ratio['quartile_1']:.2f}, {ratio['quartile_3']:.2f}]"


def exports() -> str:
    """The same weights in every form, as shares of the bare backbone and of the run itself."""
    lines = []
    for one in read(RESULTS / "exports.json")["candidates"]:
        source = one["ratios"].get("infer_to_source")
        infer = one["times"]["infer"]
        form = one["name"].removeprefix("gtav.yaml").removeprefix("@").replace(":", " ") or "torch, eager"
        to_source = "–" if source is None else f"{source['median']:.2f} ×"
        lines.append([form, one["precision"], f"{infer['p50_ms']:.0f}", times(one), to_source])
    return markdown(["form", "precision", "ms", "× bare backbone", "× eager"], lines)


def parity() -> str:
    """Worst test set of every file."""
    lines = []
    for data, models in read(RESULTS / "export_parity.json")["results"].items():
        for model, precisions in models.items():
            cells = {p: (min(r["agreement"] for r in rows.values()), worst(rows)) for p, rows in precisions.items()}
            shown = {p: f"{100 * agreement:.2f} %, {change:+.2f}" for p, (agreement, change) in cells.items()}
            texts = [shown.get(p, "–") for p in ("fp32", "bf16", "int8")]
            lines.append([data, model, *texts])
    return markdown(["trained on", "run", "fp32", "bf16", "int8 and bf16"], lines)


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
    return markdown(head, lines)


def camvid() -> str:
    """mIoU on real images beside the protocol."""
    entry = read(ROOT / "recipes" / "qprompt_r1" / "expected.json")["camvid"]
    measured = entry["measured"]
    lines = [[name, percent(score)] for name, score in measured["mean_iou"].items()]
    return f"{entry['protocol']}\n\n" + markdown(["CamVid", "mIoU"], lines)


TABLES: dict[str, Callable[[], str]] = {
    "domains": domains,
    "promises": promises,
    "exports": exports,
    "ladder": ladder,
    "parity": parity,
    "camvid": camvid,
    "arms": lambda: arm_table(read_rows(), "streets"),
    "figures": lambda: figure_table(read_rows(), "streets"),
    "queries": lambda: query_table(read_rows()),
    "camvid_arms": lambda: arm_table(read_rows(), "camvid"),
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
