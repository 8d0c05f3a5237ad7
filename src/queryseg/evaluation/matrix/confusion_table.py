"""Which classes are taken for which, as HTML.

Shape legend: K classes.
"""

from __future__ import annotations

from html import escape

import torch

from queryseg.evaluation.evaluation import Evaluation
from queryseg.evaluation.page import css_color

MOST_CLASSES = 30
"""That a table shows; of more classes those with the fewest labelled pixels are left out (JSON has all)."""


def confusion_table(evaluation: Evaluation) -> str:
    """Rows are labels, columns predictions, in % of the row's pixels: right ones on the diagonal. Below 0.5 % a cell
    stays empty; a class without labelled pixels has an empty row."""
    labelled = evaluation.confusion.sum(1)
    chosen = labelled.argsort(descending=True, stable=True)[:MOST_CLASSES].sort().values
    shares = (evaluation.confusion.double() / labelled.clamp(min=1)[:, None])[chosen][:, chosen].tolist()
    classes = evaluation.classes
    names = [(classes.names[k], css_color(classes.colors[k])) for k in chosen.tolist()]
    head = "".join(f'<th><span>{escape(name)}</span><i style="background:{color}"></i></th>' for name, color in names)
    rows = []
    for row, ((name, _), values) in enumerate(zip(names, shares, strict=True)):
        cells = "".join(_cell(value, row == column) for column, value in enumerate(values))
        pixels = int(labelled[chosen[row]])
        rows.append(f'<tr><th title="{pixels:,} labelled pixels">{escape(name)}</th>{cells}</tr>')
    return (
        f'<table class="matrix confusion"><thead><tr><th class="soft">label ↓<br>prediction →</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def most_confused(evaluation: Evaluation, number: int = 3) -> str:
    """The largest shares off the diagonal, in words; "" if everything is right."""
    labelled = evaluation.confusion.sum(1)
    shares = evaluation.confusion.double() / labelled.clamp(min=1)[:, None]
    shares = shares.masked_fill(torch.eye(len(labelled), dtype=torch.bool), 0)
    values, places = shares.flatten().topk(min(number, shares.numel()))
    names = evaluation.class_names
    found = [
        f"{100 * value:.0f} % of {names[place // len(names)]} taken for {names[place % len(names)]}"
        for value, place in zip(values.tolist(), places.tolist(), strict=True)
        if value >= 0.005
    ]
    return "; ".join(found)


def _cell(share: float, right: bool) -> str:
    if share < 0.005:
        return "<td></td>"
    kind = ' class="wrong"' * (not right)
    return f'<td{kind} style="--score:{share:.3f}">{100 * share:.0f}</td>'
