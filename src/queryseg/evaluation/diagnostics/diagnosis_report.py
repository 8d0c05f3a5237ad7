"""Diagnoses of one or several runs as files: JSON for machines, pictures, and one HTML page with everything."""

from __future__ import annotations

import re
from html import escape
from math import isnan
from pathlib import Path
from typing import Any

from PIL import Image
from rich.markup import escape as plain_markup
from rich.table import Table

from queryseg.errors import InputError
from queryseg.evaluation.chart import DENSITY
from queryseg.evaluation.diagnostics.attention_picture import ATTENTION
from queryseg.evaluation.diagnostics.diagnosis import KEYS, Diagnosis
from queryseg.evaluation.diagnostics.domain_queries import FIGURES
from queryseg.evaluation.diagnostics.panels import Diagnoses, Panels, every_panel, overview
from queryseg.evaluation.diagnostics.query_pictures import PICTURES
from queryseg.evaluation.diagnostics.text_similarity_picture import TEXT_SIMILARITY
from queryseg.evaluation.evaluation import percent
from queryseg.evaluation.page import definitions, figure_boxes, inline_image, section, write_page
from queryseg.evaluation.report import run_facts


def diagnoses_json(diagnoses: Diagnoses) -> dict[str, Any]:
    """All figures, and what their keys mean."""
    return {"keys": dict(KEYS), "runs": {run: diagnosis.to_json() for run, diagnosis in diagnoses.items()}}


def write_report(diagnoses: Diagnoses, folder: str | Path) -> None:
    """report.html, and every picture as a file: NAME.png with all panels, and each of several panels by itself.

    Raises: InputError if something cannot be written
    """
    folder = Path(folder)
    sections = []
    for name, picture in {**PICTURES, "attention": ATTENTION, "text_similarity": TEXT_SIMILARITY}.items():
        panels = picture.draw(diagnoses)
        if panels:
            whole = overview(panels)
            _write_pictures(folder, name, whole, panels)
            image = inline_image(picture.title, whole, "png", DENSITY)
            text = f'<p class="soft">{escape(picture.explanation)}</p><div class="panels">{image}</div>'
            sections.append(section(picture.title, text))
    runs, first = list(diagnoses), next(iter(diagnoses.values()))
    lead = (
        f"{_listed(runs) if runs[0] else 'One run'} on {_listed(list(first.domains))}. Prototypes are class means of "
        f"{first.source}, from which differences and drift are measured."
    )
    facts = (
        section("Run" if len(runs) == 1 else f"Run {run}", run_facts(diagnosis.table))
        for run, diagnosis in diagnoses.items()
        if diagnosis.table is not None
    )
    parts = [
        figure_boxes(_boxes(diagnoses)),
        section("Figures", _table(diagnoses) + _notes(diagnoses)),
        *sections,
        section("Dead queries, numbered from 0", _dead(diagnoses)),
        section("What the figures mean", definitions({f.title: f"{f.meaning}." for f in FIGURES.values()})),
        *facts,
    ]
    write_page(folder / "report.html", "Query diagnostics", lead, parts)


def terminal_table(run: str, diagnosis: Diagnosis) -> Table:
    """Figures of one run, a column per data set."""
    notes = " ".join(diagnosis.notes)
    table = Table(title=plain_markup(f"queries of {run}" if run else "queries"), caption=plain_markup(notes))
    table.add_column("figure")
    for domain in diagnosis.domains:
        table.add_column(plain_markup(domain), justify="right")
    for key, figure in FIGURES.items():
        values = (domain.figures[key] for domain in diagnosis.domains.values())
        table.add_row(figure.title, *(_shown(value, figure.places) for value in values))
    return table


def _boxes(diagnoses: Diagnoses) -> list[tuple[str, str]]:
    """What changed from run to run on the first data set."""
    source = next(iter(diagnoses.values())).source
    runs = "" if len(diagnoses) == 1 else f" ({' → '.join(diagnoses)})"
    return [
        (
            " → ".join(_shown(d.domains[source].figures[key], FIGURES[key].places) for d in diagnoses.values()),
            f"{FIGURES[key].title} on {source}{runs}",
        )
        for key in ("active_queries", "dead_queries", "compactness")
    ]


def _table(diagnoses: Diagnoses) -> str:
    domains = next(iter(diagnoses.values())).domains
    runs = len(diagnoses)
    place = "across" if runs > 1 else "number"
    top = "".join(f'<th class="{place}" colspan="{runs}">{escape(domain)}</th>' for domain in domains)
    head = f"<tr><th></th>{top}</tr>"
    if runs > 1:
        names = "".join(f'<th class="number">{escape(run)}</th>' for run in diagnoses) * len(domains)
        head += f"<tr><th></th>{names}</tr>"
    rows = [_scores(diagnoses)]
    for key, figure in FIGURES.items():
        cells = []
        for domain in domains:
            for diagnosis in diagnoses.values():
                value, there = (diagnosis.domains[name].figures[key] for name in (domain, diagnosis.source))
                difference = "" if domain == diagnosis.source else _difference(value - there, figure.places)
                cells.append(f'<td class="number">{_shown(value, figure.places)}{difference}</td>')
        rows.append(f'<tr><th title="{escape(figure.meaning)}">{escape(figure.title)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="scroll"><table class="domains"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _scores(diagnoses: Diagnoses) -> str:
    """mIoU of the same images."""
    tables = [diagnosis.table for diagnosis in diagnoses.values()]
    found = [{e.name: e for e in table.evaluations} for table in tables if table is not None]
    if len(found) < len(tables):
        return ""
    cells = "".join(
        f'<td class="number">{percent(evaluations[domain].mean_iou)}</td>'
        for domain in found[0]
        for evaluations in found
    )
    return f'<tr><th title="of the images that were looked at">mIoU in %</th>{cells}</tr>'


def _notes(diagnoses: Diagnoses) -> str:
    notes = dict.fromkeys(note for diagnosis in diagnoses.values() for note in diagnosis.notes)
    images = [f"{domain.num_images} of {name}" for d in diagnoses.values() for name, domain in d.domains.items()]
    looked = f"Images looked at: {', '.join(dict.fromkeys(images))}. Grey figures: difference to the first data set."
    return f'<p class="soft">{escape(" ".join([*notes, looked]))}</p>'


def _dead(diagnoses: Diagnoses) -> str:
    entries = {}
    for run, domain, diagnosis in every_panel(diagnoses):
        dead = diagnosis.domains[domain].dead
        listed = ", ".join(map(str, dead)) or "none"
        entries[f"{run} on {domain}" if run else domain] = f"{listed} ({len(dead)} of {diagnosis.num_queries})"
    return definitions(entries)


def _write_pictures(folder: Path, name: str, whole: Image.Image, panels: Panels) -> None:
    files = {f"{name}.png": whole}
    if len(panels) > 1:
        for i, ((run, domain), panel) in enumerate(panels.items()):
            words = [re.sub(r"[^\w.-]+", "_", word) for word in (name, run, domain) if word]
            path = f"panels/{'_'.join(words)}.png"
            files[path if path not in files else f"panels/{'_'.join(words)}_{i}.png"] = panel
    for file, picture in files.items():
        try:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            picture.save(folder / file)
        except OSError as error:
            raise InputError(f"{folder / file} cannot be written ({error.strerror}); choose another folder.") from None


def _shown(value: float, places: int) -> str:
    return "–" if isnan(value) else f"{value:.{places}f}"


def _difference(value: float, places: int) -> str:
    if isnan(value):
        return ""
    rounded = f"{value:+.{places}f}"
    return f'<span class="difference">{rounded if float(rounded) else "±0"}</span>'


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
