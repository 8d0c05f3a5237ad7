"""One layout of published checkpoints, and what turns it into a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from queryseg.conversion.converted import Converted
from queryseg.conversion.layout import Layout, read_layout
from queryseg.errors import CheckpointError

Tensors = Mapping[str, Tensor]
Config = Mapping[str, Any]
"""See `PublishedCheckpoint`."""


Complete = Callable[[Tensors, Path | None, str], Tensors]


@dataclass(frozen=True)
class Format:
    """title, source, verified: see `Layout`.

    recognises     whether a checkpoint is of this format
    to_run         the conversion; None: the layout is known, but not converted yet
    layout         names and shapes that are compared first; None: the conversion does that itself
    obstacle       why it is not converted, a clause; "" if it is
    complete       adds the tensors of a trunk in a file of its own (which may be None): tensors, its path, source → all
    """

    title: str
    source: str
    verified: bool
    recognises: Callable[[Tensors, Config], bool]
    to_run: Callable[[Tensors, Config], Converted] | None
    layout: Layout | None = None
    complete: Complete | None = None
    obstacle: str = ""

    @classmethod
    def of_layout(
        cls,
        name: str,
        to_run: Callable[[Tensors, Config], Converted] | None,
        current_names: Callable[[Tensors], Tensors] = dict,
        complete: Complete | None = None,
        obstacle: str = "",
    ) -> Format:
        """A format whose names and shapes are `layouts/NAME.yaml`."""
        layout = read_layout(name)

        return cls(
            layout.title,
            layout.source,
            layout.verified,
            lambda tensors, _: layout.recognises(current_names(tensors)),
            to_run,
            replace(layout, current_names=current_names),
            complete,
            obstacle,
        )

    def convert(self, tensors: Tensors, config: Config, source: str, base: Path | None = None) -> Converted:
        """A run, with an account of what was not as the layout has it.

        source  for messages
        base    a file with the trunk, for checkpoints that leave it out

        Raises: CheckpointError for tensors that are missing or misshapen, and for layouts that are not converted yet.
        """
        if self.to_run is None:
            raise CheckpointError(f"{source} is {self.title}; it cannot be converted: {self.obstacle}.")
        if self.complete is None and base is not None:
            raise CheckpointError(f"{source} is {self.title}, which holds its backbone; leave --base {base} out.")
        unexpected: tuple[str, ...] = ()
        if self.layout is not None:
            tensors = self.layout.current_names(tensors)
            if self.complete is not None:
                tensors = self.complete(tensors, base, source)
            comparison = self.layout.compare(tensors)
            if comparison.missing or comparison.misshaped:
                raise CheckpointError(
                    f"{source} is {self.title}, but not whole ({'; '.join(comparison.lines())}); download it again."
                )
            unexpected = comparison.unexpected
        converted = self.to_run(tensors, config)
        return replace(converted, unexpected=unexpected, layout=self.title, verified=self.verified)
