"""Layout `joined`: several data sets one after another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch import Tensor

from queryseg.data.data_file import open_data
from queryseg.data.dataset import FileBacked, Problem, SegmentationDataset, read_label_map, sample_name
from queryseg.errors import InputError
from queryseg.types import Sample


class Joined(SegmentationDataset):
    """The samples of the first part, then those of the second, and so on; an image may come twice, with other labels.

    layout: joined
    parts: [{layout: …}, city.yaml]

    parts  data files, or their contents, of one class table
    root   folder that relative paths of `parts` start from
    name   of the data set in tables; None: the first part's

    Raises: InputError
    """

    def __init__(
        self, parts: Sequence[str | Mapping[str, Any]], root: str | Path = ".", name: str | None = None
    ) -> None:
        if not parts:
            raise InputError("'parts' is empty; give at least one data set.")
        self.parts = [
            open_data(part, relative_to=root) if isinstance(part, Mapping) else open_data(Path(root) / part)
            for part in parts
        ]
        self.name, self.classes = name or self.parts[0].name, self.parts[0].classes
        if others := [part for part in self.parts if part.classes.names != self.classes.names]:
            raise InputError(
                f"'{self.parts[0].name}' and '{others[0].name}' have different classes; give both one table."
            )
        self._ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        part, place = self._place(index)
        return part[place]

    def sample_name(self, index: int) -> str:
        return sample_name(*self._place(index))

    def read_label_map(self, index: int) -> Tensor:
        return read_label_map(*self._place(index))

    def problems(self) -> Sequence[Problem]:
        return [problem for part in self.parts if isinstance(part, FileBacked) for problem in part.problems()]

    def _place(self, index: int) -> tuple[SegmentationDataset, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number = bisect_right(self._ends, index)
        return self.parts[number], index - (self._ends[number - 1] if number else 0)
