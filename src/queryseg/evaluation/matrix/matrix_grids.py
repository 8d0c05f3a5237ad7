"""The tables of a domain matrix."""

from __future__ import annotations

from queryseg.data.corruptions import CORRUPTIONS
from queryseg.evaluation.corruption_scores import CorruptionScores
from queryseg.evaluation.domain_table import spelt
from queryseg.evaluation.estimate import Estimate, MeanIoU
from queryseg.evaluation.evaluation import score_text
from queryseg.evaluation.matrix.domain_matrix import DomainMatrix
from queryseg.evaluation.matrix.score_grid import Cell, Row, ScoreGrid, with_best

_INTERVALS = "intervals: 95 %, bootstrap over images, silent about other seeds"


def sources_by_targets(matrix: DomainMatrix) -> ScoreGrid:
    """A row per run, a column per target."""
    rows = []
    for run in matrix.runs:
        cells = []
        for target in matrix.targets:
            e = matrix.evaluation(run, target)
            cells.append(Cell.of(Estimate(e.mean_iou, e.mean_iou_interval), matrix.is_seen(run, target)))
        rows.append(Row([run], [*cells, Cell.of(matrix.mean_unseen(run)), Cell.of(matrix.retention(run))]))
    numbers = [f"{matrix.evaluation(matrix.runs[0], target).num_images:,}" for target in matrix.targets]
    return ScoreGrid(
        "Sources × targets: mIoU in %",
        ["run"],
        [*matrix.targets, "mean unseen", "retained"],
        with_best(rows) if len(rows) > 1 else rows,
        "mean unseen: every unseen target counts the same; retained: mean unseen in % of the training domain's "
        f"mIoU; {_INTERVALS}",
        [*(f"{number} images" for number in numbers), "", ""],
    )


def class_scores(matrix: DomainMatrix, target: str) -> ScoreGrid:
    """A row per class, a column per run."""
    found = [matrix.evaluation(run, target).iou.tolist() for run in matrix.runs]
    rows = [
        Row([name], [Cell.of(Estimate(scores[k])) for scores in found]) for k, name in enumerate(matrix.classes.names)
    ]
    return ScoreGrid(f"IoU per class on {target} in %", ["class"], matrix.runs, rows)


def conditions(matrix: DomainMatrix) -> list[ScoreGrid]:
    """For every target whose images are scored by condition: a row per run, a column per condition."""
    grids = []
    for target in matrix.targets:
        names = matrix.conditions(target)
        if not names:
            continue
        rows = []
        for run in matrix.runs:
            e, seen = matrix.evaluation(run, target), matrix.is_seen(run, target)
            parts = [e.conditions[name] for name in names]
            scores = [Estimate(part.scores()["mean_iou"], part.interval("mean_iou")) for part in parts]
            scores += [MeanIoU(parts, same_images=False).mean(), Estimate(e.mean_iou, e.mean_iou_interval)]
            rows.append(Row([run], [Cell.of(score, seen) for score in scores]))
        grids.append(
            ScoreGrid(
                f"Conditions of {target}: mIoU in %",
                ["run"],
                [*names, "mean", "pooled"],
                with_best(rows),
                "mean: of the conditions, each counting the same; pooled: over the pixels of all images, as the "
                f"benchmark's server has it; {_INTERVALS}",
                [*(f"{part.num_images:,} images" for part in parts), "", ""],
            )
        )
    return grids


def corruption_means(matrix: DomainMatrix) -> list[ScoreGrid]:
    """A row per corrupted target and run; clean, every corruption, every group of several, mPC and rPC."""
    if not matrix.corruptions:
        return []
    any_scores = next(iter(matrix.corruptions.values()))[matrix.runs[0]]
    groups = [group for group, names in any_scores.groups.items() if len(names) > 1]
    rows = []
    for target, found in matrix.corruptions.items():
        together = []
        for run, of in found.items():
            e = matrix.evaluation(run, target)
            cells = [Cell.of(Estimate(e.mean_iou, e.mean_iou_interval), matrix.is_seen(run, target))]
            cells += [Cell.of(of.mean(name)) for name in of.corruptions]
            cells += [Cell.of(of.group_mean(group)) for group in groups]
            together.append(Row([target, run], [*cells, Cell.of(of.performance), Cell.of(of.relative_performance)]))
        rows += with_best(together)
    return [
        ScoreGrid(
            "mIoU under corruption in %, mean over severities",
            ["target", "run"],
            ["clean", *map(_spaced, any_scores.corruptions), *(f"all {group}" for group in groups), "mPC", "rPC"],
            rows,
            f"{_asked(any_scores)}; mPC: mean over corruptions of the mean over severities; rPC: mPC in % of clean "
            f"(Michaelis et al. 2019); {_INTERVALS}, the same images drawn for all columns",
        )
    ]


def corruption_severities(matrix: DomainMatrix) -> list[ScoreGrid]:
    """For every corrupted target: a row per corruption and run, a column per severity."""
    grids = []
    for target, found in matrix.corruptions.items():
        levels = sorted({severity for of in found.values() for _, severity in of.corrupted})
        rows = []
        for name in found[matrix.runs[0]].corruptions:
            together = []
            for run in matrix.runs:
                known = {level: found[run].corrupted.get((name, level)) for level in levels}
                cells = [
                    Cell("") if e is None else Cell.of(Estimate(e.mean_iou, e.mean_iou_interval))
                    for e in known.values()
                ]
                together.append(Row([f"{_spaced(name)} ({CORRUPTIONS[name].group})", run], cells))
            rows += with_best(together)
        title = f"{target}, severity by severity: mIoU in %"
        grids.append(ScoreGrid(title, ["corruption", "run"], [f"severity {level}" for level in levels], rows))
    return grids


def measure_scores(matrix: DomainMatrix) -> list[ScoreGrid]:
    """For every further measure: a row per score and run, a column per target."""
    grids = []
    for name, measured in matrix.evaluation(matrix.runs[0], matrix.targets[0]).measures.items():
        rows = []
        for score in measured.scores():
            for run in matrix.runs:
                found = [matrix.evaluation(run, target).measures[name] for target in matrix.targets]
                texts = [score_text(m.scores()[score], m.interval(score), m.metric.limits(score)) for m in found]
                cells = []
                for target, text in zip(matrix.targets, texts, strict=True):
                    value, _, interval = text.partition(" ")
                    interval = interval.strip("[]").replace(", ", " – ")
                    cells.append(Cell(value, interval, seen=matrix.is_seen(run, target)))
                rows.append(Row([spelt(score), run], cells))
        settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in measured.metric.settings.items())
        units = "likelihood in nats, Brier score in 0 … 2, error in %" if name == "calibration" else "in %"
        note = "; ".join(filter(None, [units, settings]))
        grids.append(ScoreGrid(f"Measure {spelt(name)}", ["score", "run"], matrix.targets, rows, note))
    return grids


def _asked(scores: CorruptionScores) -> str:
    number = len(scores.corruptions)
    levels = sorted({severity for _, severity in scores.corrupted})
    return f"{number} corruption{'s'[: number > 1]}, severities {', '.join(map(str, levels))}"


def _spaced(corruption: str) -> str:
    return corruption.replace("_", " ")


def all_grids(matrix: DomainMatrix) -> list[ScoreGrid]:
    """In the order in which a reader wants them."""
    return [
        sources_by_targets(matrix),
        *conditions(matrix),
        *corruption_means(matrix),
        *corruption_severities(matrix),
        *measure_scores(matrix),
        *(class_scores(matrix, target) for target in matrix.targets),
    ]
