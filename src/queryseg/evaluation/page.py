"""What every report is made of: one HTML file, nothing to install, nothing to fetch, no scripts."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from PIL import Image

from queryseg.errors import InputError
from queryseg.evaluation.stylesheet import STYLESHEET


def write_page(path: str | Path, title: str, lead: str, parts: Iterable[str]) -> None:
    """title, lead: plain text; parts: HTML below them. Raises: InputError if the file cannot be written"""
    page = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLESHEET}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{"".join(parts)}</main></body></html>\n'
    )
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"The report {path} cannot be written ({error.strerror}); choose another file.") from None


def section(title: str, content: str) -> str:
    """A card; nothing without content."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def figure_boxes(boxes: Iterable[tuple[str, str]]) -> str:
    """(figure, what it is) in large letters: what a reader came for."""
    cells = (
        f'<div><strong>{escape(value)}</strong><span class="soft">{escape(text)}</span></div>' for value, text in boxes
    )
    return f'<div class="figures">{"".join(cells)}</div>'


def definitions(entries: Mapping[str, str]) -> str:
    """Terms beside what they are; empty ones are left out."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entries.items() if value)
    return f"<dl>{items}</dl>"


def inline_image(alt: str, picture: Image.Image, kind: str, density: int = 1) -> str:
    """kind: png or jpeg; density: pixels of the picture per pixel of the page."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=85, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    width, height = picture.width // density, picture.height // density
    return f'<img alt="{escape(alt)}" width="{width}" height="{height}" src="data:image/{kind};base64,{data}">'


def css_color(color: tuple[int, int, int]) -> str:
    """(31, 41, 59) → "rgb(31 41 59)"."""
    return f"rgb({color[0]} {color[1]} {color[2]})"
