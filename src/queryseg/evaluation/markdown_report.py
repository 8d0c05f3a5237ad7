"""A domain table as Markdown, for a README or a pull request."""

from __future__ import annotations

from pathlib import Path

from queryseg.errors import InputError
from queryseg.evaluation.domain_table import DomainTable
from queryseg.evaluation.evaluation import percent


def write_markdown(table: DomainTable, path: str | Path) -> None:
    """Raises: InputError if the file cannot be written"""
    try:
        Path(path).write_text(markdown(table), encoding="utf-8")
    except OSError as error:
        raise InputError(f"'{path}' could not be written ({error.strerror}); choose a folder that can.") from error


def markdown(table: DomainTable) -> str:
    """Warnings, data sets, classes, and what must stand beside every score."""
    domains = [["data set", "split", "domain", "images", "mIoU", "95 % interval", "pixel accuracy"]]
    for e in table.evaluations:
        domain = "training" if e.name in table.seen else "unseen"
        interval = " – ".join(map(percent, e.mean_iou_interval))
        scores = [percent(e.mean_iou), interval, percent(e.pixel_accuracy)]
        domains.append([e.name, e.split or "–", domain, f"{e.num_images:,}", *scores])
    if len(table.unseen) > 1:
        domains.append(["mean", "", "unseen", "", percent(table.mean_unseen), "", ""])
    classes = [["class", *(e.name for e in table.evaluations)]]
    for k, name in enumerate(table.class_names):
        classes.append([name, *(percent(float(e.iou[k])) for e in table.evaluations)])
    caption = f"{table.caption[0].upper()}{table.caption[1:]}."
    warnings = "".join(f"> **Warning:** {text}\n\n" for text in table.warnings)
    return f"{warnings}mIoU in %\n\n{_rows(domains)}\n{caption}\n\nIoU per class in %\n\n{_rows(classes)}"


def _rows(rows: list[list[str]]) -> str:
    head, *body = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    rule = " | ".join(["---", *["---:"] * (len(rows[0]) - 1)])
    return "".join(f"| {line} |\n" for line in (head, rule, *body))
