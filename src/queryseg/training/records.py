"""What a run writes down: metrics.csv, TensorBoard events, pictures."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isnan
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from queryseg.errors import CheckpointError
from queryseg.evaluation.diagnostics import Diagnosis
from queryseg.evaluation.diagnostics.map_picture import query_prototypes
from queryseg.evaluation.diagnostics.panels import overview
from queryseg.inference.run_folder import replace_file

METRICS = "metrics.csv"


class Records:
    """metrics.csv (one row per log step) and TensorBoard events in the run's folder.

    columns  of the CSV file, in order; the first is the step
    step     where the run begins. Rows after it come from an interrupted run and are dropped, so that the file equals
             that of an uninterrupted one.
    """

    def __init__(self, folder: Path, columns: Sequence[str], step: int) -> None:
        self.folder, self.columns = folder, list(columns)
        path = folder / METRICS
        kept = [row for row in _read_rows(path) if int(row["step"]) <= step] if step else []
        table = io.StringIO(newline="")
        csv.DictWriter(table, self.columns, restval="", extrasaction="ignore", lineterminator="\n").writeheader()
        self._writer(table).writerows(kept)
        replace_file(path, table.getvalue().encode())
        self._file = path.open("a", newline="")
        self._events = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def row(self, values: Mapping[str, float]) -> None:
        """values: column → number; missing columns stay empty. Numbers are written with all their digits.

        Raises: CheckpointError if they cannot be written.
        """
        try:
            self._writer(self._file).writerow(values)
            self._file.flush()
            for name, value in values.items():
                if name != "step":
                    self._events.add_scalar(name, value, int(values["step"]))
        except OSError as error:
            path = self.folder / METRICS
            raise CheckpointError(
                f"{path} could not be written ({error.strerror}); free some space and continue with --resume."
            ) from None

    def picture(self, step: int, picture: Tensor) -> None:
        """(3, H, W) uint8 → pictures/step_000500.png and TensorBoard"""
        path = self.folder / "pictures" / f"step_{step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "png")
        replace_file(path, buffer.getvalue())
        self._events.add_image("predictions", picture, step)

    def diagnosis(self, step: int, diagnosis: Diagnosis) -> None:
        """Figures of the queries on every data set, "queries/DATA/FIGURE", and the map, to TensorBoard alone."""
        for name, domain in diagnosis.domains.items():
            for key, value in domain.figures.items():
                if not isnan(value):
                    self._events.add_scalar(f"queries/{name}/{key}", value, step)
        if panels := query_prototypes({"": diagnosis}):
            self._events.add_image("queries", np.asarray(overview(panels)), step, dataformats="HWC")

    def flush(self) -> None:
        """Rows are on the disk before the checkpoint that relies on them."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        with suppress(OSError):  # of a full disk, which `row` has told of; what a checkpoint relies on is flushed
            self._file.close()
            self._events.close()

    def _writer(self, file: io.TextIOBase | io.StringIO) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self.columns, restval="", extrasaction="ignore", lineterminator="\n")


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]  # a killed process may leave half a line
    return list(csv.DictReader(io.StringIO(whole)))
