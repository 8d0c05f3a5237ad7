"""Rows of finished runs to tables: means over seeds with intervals, and differences between arms of the same seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from arms import ADAPTERS, APART, ARMS, BY_CLASS, CLASS_GROUPS, NUM_QUERIES, ROOT, TEXTS, all_runs

from queryseg.evaluation.markdown_report import markdown_table
from queryseg.training.sweep_table import SeedMean

Row = dict[str, Any]

RESULTS = ROOT / "benchmarks" / "results" / "generalization.jsonl"
MAIN_ARMS = tuple(arm for arm in ARMS if arm not in APART)
NOTHING = "Nothing has been measured yet."


def over_seeds(values: Sequence[float]) -> str:
    """Mean and half of its interval, in points."""
    return str(SeedMean.of(list(values)))


def unseen(row: Row) -> float:
    """Mean mIoU over all domains but the first, the source."""
    return float(np.mean(list(row["mean_iou"].values())[1:]))


def difference(rows: Iterable[Row], arm: str, control: str) -> str:
    """Unseen mean of `arm` minus that of `control`, seed by seed."""
    by = {(row["arm"], row["seed"]): unseen(row) for row in rows}
    pairs = [by[arm, seed] - by[control, seed] for a, seed in by if a == arm and (control, seed) in by]
    return signed(pairs) if pairs else ""


def signed(differences: Sequence[float]) -> str:
    """`over_seeds`, with a plus where there is a gain"""
    return f"{'+' if np.mean(differences) >= 0 else ''}{over_seeds(differences)}"


def arm_table(rows: list[Row], setting: str, arms: Sequence[str] = MAIN_ARMS, control: str = "qprompt") -> str:
    """One line per arm; the column before the last compares with the control of the same seed."""
    mine = [row for row in rows if row["setting"] == setting and row["queries"] is None and row["arm"] in arms]
    if not mine:
        return NOTHING
    domains = list(mine[0]["mean_iou"])
    lines = []
    for arm in arms:
        found = [row for row in mine if row["arm"] == arm]
        if found:
            active = [row["figures"][domains[0]]["active_queries"] for row in found if row["figures"]]
            line = [
                ARMS[arm].title,
                str(len(found)),
                *(over_seeds([row["mean_iou"][d] for row in found]) for d in domains),
            ]
            line += [over_seeds([unseen(row) for row in found])] if len(domains) > 2 else []
            line += ["" if arm == control else difference(mine, arm, control)]
            lines.append([*line, f"{np.mean(active):.1f}" if active else "–"])
    mean = ["unseen mean"] if len(domains) > 2 else []
    titles = [
        "arm",
        "seeds",
        *(d.replace("_", " ") for d in domains),
        *mean,
        f"unseen, against {ARMS[control].title}",
        "active queries",
    ]
    return markdown_table(titles, lines)


def text_table(rows: list[Row]) -> str:
    """As many queries as classes on streets, learned or said by a random text encoder; differences seed by seed."""
    return arm_table(rows, "streets", TEXTS, TEXTS[0]) + missing_runs(rows_on_streets(rows), TEXTS)


def rows_on_streets(rows: list[Row]) -> list[Row]:
    """With the recipe's number of queries."""
    return [row for row in rows if row["setting"] == "streets" and row["queries"] is None]


def missing_runs(rows: list[Row], arms: Sequence[str]) -> str:
    """A sentence that names the runs on streets of which there is no row yet, on a paragraph of its own; "" if none."""
    there = {(row["arm"], row["seed"]) for row in rows}
    told = []
    for arm in arms:
        seeds = [run.seed for run in all_runs() if (run.setting, run.arm, run.queries) == ("streets", arm, None)]
        missing = [seed for seed in seeds if (arm, seed) not in there]
        which = f"seed{'s'[: len(missing) > 1]} {', '.join(map(str, missing))}"
        told += [f"{ARMS[arm].title} ({which})"] if missing else []
    return f"\n\nNot measured yet: {'; '.join(told)}." if told else ""


def adapter_table(rows: list[Row]) -> str:
    """One line per way of tuning the trunk on streets: domains without GRQA, the unseen mean without and with it, and
    the differences, seed by seed. What is missing is named below."""
    mine = rows_on_streets(rows)
    pairs = {"full fine-tuning": ("qprompt", "qprompt_r1")}
    pairs = {ARMS[name].title: (name, f"{name}_grqa") for name in ADAPTERS} | pairs
    missing = missing_runs(mine, [arm for pair in pairs.values() for arm in pair])
    domains = next((list(row["mean_iou"]) for row in mine), [])
    lines = []
    for title, (plain, twin) in pairs.items():
        found, with_grqa = ([row for row in mine if row["arm"] == arm] for arm in (plain, twin))
        if not found and not with_grqa:
            continue
        scores = [scores_of([row["mean_iou"][domain] for row in found]) for domain in domains]
        against = "" if plain == "qprompt" else difference(mine, plain, "qprompt")
        means = [scores_of([unseen(row) for row in found]), against]
        means += [scores_of([unseen(row) for row in with_grqa]), difference(mine, twin, plain)]
        lines.append([title, f"{len(found)}, {len(with_grqa)}", *scores, *means])
    shown = [domain.replace("_", " ") for domain in domains]
    titles = ["unseen mean", "against full", "unseen mean with GRQA", "GRQA against without"]
    table = markdown_table(["trunk", "seeds without, with GRQA", *shown, *titles], lines) if lines else NOTHING
    return table + missing


def scores_of(values: Sequence[float]) -> str:
    """`over_seeds`, or a dash where there are none"""
    return over_seeds(values) if values else "–"


FIGURES = {
    "dead_queries": "dead queries",
    "usage_entropy": "usage entropy",
    "mask_overlap_same_class": "mask overlap, same class",
    "size_by_prototype": "group size",
    "absent_by_prototype": "queries of absent classes",
    "compactness": "compactness",
    "margin": "margin",
    "class_similarity": "similarity of classes",
    "class_mean_drift": "drift of class means",
}
"""Of `queryseg diagnose`, which explains each of them."""


def figure_table(rows: list[Row], setting: str) -> str:
    """What queries do, by arm: on the source domain, and for drift on the unseen ones; means over seeds."""
    mine = [row for row in rows if row["setting"] == setting and row["queries"] is None and row["figures"]]
    lines = []
    for arm in MAIN_ARMS:
        found = [row["figures"] for row in mine if row["arm"] == arm]
        if found:
            line = [ARMS[arm].title]
            for key in FIGURES:
                source, *others = ([seen[domain][key] for seen in found] for domain in found[0])
                values = [v for domain in others for v in domain] if key == "class_mean_drift" else source
                known = [v for v in values if v is not None]
                line.append(f"{np.mean(known):.2f}" if known else "–")
            lines.append(line)
    return markdown_table(["arm", *FIGURES.values()], lines) if lines else NOTHING


def query_table(rows: list[Row]) -> str:
    """QPrompt and QPrompt-R1 by number of queries."""
    lines = []
    for k in NUM_QUERIES:
        for arm in ("qprompt", "qprompt_r1"):
            for row in rows:
                if row["setting"] == "streets" and row["queries"] == k and row["arm"] == arm:
                    first = next(iter(row["mean_iou"]))
                    lines.append(
                        [
                            f"{k}, {ARMS[arm].title.removeprefix('+ KL = ')}",
                            over_seeds([row["mean_iou"][first]]),
                            over_seeds([unseen(row)]),
                            f"{row['figures'][first]['active_queries']:.1f}",
                            f"{row['grqa/group_size']:.1f}",
                            f"{row['grqa/classes_occupied']:.1f}",
                            f"{100 * row['regrouped_per_100_steps']:.1f} %",
                        ]
                    )
    titles = ["queries", "clear", "unseen mean", "active", "group size", "classes occupied", "regrouped per 100 steps"]
    return markdown_table(titles, lines) if lines else NOTHING


def group_scores(row: Row) -> dict[str, float]:
    """Mean IoU of each group of classes, on the source domain and over the unseen ones."""
    source, *others = row["iou"].values()
    grouped = {name for group in CLASS_GROUPS.values() for name in group}
    groups = {**CLASS_GROUPS, "the rest": tuple(name for name in source if name not in grouped)}

    def mean(domain: dict[str, float | None], names: Sequence[str]) -> float:
        return float(np.mean([score for name in names if (score := domain[name]) is not None]))

    found = {f"source, {title}": mean(source, names) for title, names in groups.items()}
    return found | {f"unseen, {t}": float(np.mean([mean(d, names) for d in others])) for t, names in groups.items()}


def class_group_table(rows: list[Row]) -> str:
    """Small and thin classes apart, on streets; the last line compares seed by seed."""
    rows = [
        row
        for row in rows
        if row["setting"] == "streets" and row["queries"] is None and row["arm"] in BY_CLASS and "iou" in row
    ]
    missing = missing_runs(rows, BY_CLASS)
    if not rows:
        return NOTHING + missing
    scores = {arm: {row["seed"]: group_scores(row) for row in rows if row["arm"] == arm} for arm in BY_CLASS}
    titles = list(group_scores(rows[0]))
    lines = []
    for arm in BY_CLASS:
        found = scores[arm].values()
        means = (scores_of([one[title] for one in found]) for title in titles)
        lines.append([ARMS[arm].title, str(len(found)), *means])
    base, ours = (scores[arm] for arm in BY_CLASS)
    both = sorted(base.keys() & ours.keys())
    if both:
        pairs = {title: [ours[seed][title] - base[seed][title] for seed in both] for title in titles}
        lines.append(["difference", str(len(both)), *map(signed, pairs.values())])
    return markdown_table(["arm", "seeds", *titles], lines) + missing


def summary(rows: list[Row]) -> str:
    """All tables as Markdown."""
    parts = {"Streets": arm_table(rows, "streets"), "Queries": figure_table(rows, "streets")}
    parts["Small and thin classes"] = class_group_table(rows)
    parts["Adapters"] = adapter_table(rows)
    parts["Texts"] = text_table(rows)
    parts["Number of queries"] = query_table(rows)
    parts["CamVid, day to dusk"] = arm_table(rows, "camvid")
    return "\n\n".join(f"## {title}\n\n{table}" for title, table in parts.items())
