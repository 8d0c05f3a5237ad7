"""What all pictures of a diagnosis share: a panel per run and data set, under a headline, of one width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from PIL import Image

from queryseg.evaluation.chart import PAPER, SOFT, Chart, fitted
from queryseg.evaluation.diagnostics.diagnosis import Diagnosis

Diagnoses = Mapping[str, Diagnosis]
"""Name of a run → its diagnosis; every run has the same data sets in the same order."""

Panels = dict[tuple[str, str], Image.Image]
"""(run, data set) → picture"""

WIDTH = 530  # pixels; a page holds two beside each other
MARGIN = 14
TOP = 58  # below the headline
COLUMNS = 2


def every_panel(diagnoses: Diagnoses) -> Iterator[tuple[str, str, Diagnosis]]:
    """(run, data set, diagnosis of the run)"""
    for run, diagnosis in diagnoses.items():
        for domain in diagnosis.domains:
            yield run, domain, diagnosis


def headed(height: float, run: str, domain: str, subtitle: str) -> Chart:
    """A chart with its headline. run: "" if there is only one."""
    chart = Chart(WIDTH, round(height))
    chart.text(MARGIN, 20, fitted(f"{run} on {domain}" if run else domain, WIDTH - 2 * MARGIN, 16), 16)
    chart.text(MARGIN, 42, fitted(subtitle, WIDTH - 2 * MARGIN), color=SOFT)
    return chart


def overview(panels: Panels) -> Image.Image:
    """All panels. Several runs stand beside each other, a line per data set; else data sets do."""
    runs, domains = (list(dict.fromkeys(key[i] for key in panels)) for i in (0, 1))
    rows = [domains] if len(runs) == 1 else [[domain] for domain in domains]
    found = [[panels[run, domain] for domain in row for run in runs if (run, domain) in panels] for row in rows]
    lines = [row[i : i + COLUMNS] for row in found for i in range(0, len(row), COLUMNS)]
    width = max(picture.width for line in lines for picture in line)
    heights = [max(picture.height for picture in line) for line in lines]
    sheet = Image.new("RGB", (width * max(map(len, lines)), sum(heights)), PAPER)
    top = 0
    for line, height in zip(lines, heights, strict=True):
        for column, picture in enumerate(line):
            sheet.paste(picture, (column * width, top))
        top += height
    return sheet
