"""Where the files of a data set lie, as a pattern: `gtFine/{split}/{name}_gtFine_labelIds.png`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_FIELD = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class PathPattern:
    """A path below a root with fields in braces.

    {name}     any path, of several folders or none; what pairs an image with its label
    {other}    any part of one folder's or file's name
    {png|jpg}  one of these words
    """

    text: str

    def fill(self, **fields: str | None) -> PathPattern:
        """The pattern with the fields that are known put in."""
        text = self.text
        for name, value in fields.items():
            if value is not None:
                text = text.replace(f"{{{name}}}", value)
        return PathPattern(text)

    @cached_property
    def folder(self) -> str:
        """The folder in which all its files lie, as far as it is known: up to the first field."""
        return self.text.partition("{")[0].rpartition("/")[0]

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields that are still open, without choices of words."""
        return tuple(name for name in _FIELD.findall(self.text) if "|" not in name)

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Matches whole paths; groups are the open fields."""
        parts = _FIELD.split(self.text)
        return re.compile("".join(_group(part) if i % 2 else re.escape(part) for i, part in enumerate(parts)))

    def match(self, path: str) -> dict[str, str] | None:
        """The fields of a path, or None if it is another."""
        found = self.regex.fullmatch(path)
        return None if found is None else found.groupdict()

    def __str__(self) -> str:
        return self.text.replace("{name}", "…")


def _group(field: str) -> str:
    if "|" in field:
        return f"(?:{'|'.join(map(re.escape, field.split('|')))})"
    return f"(?P<{field}>.+)" if field == "name" else f"(?P<{field}>[^/]+?)"
