"""Segments of an image, shown to a model as a protocol says.

Shape legend: H×W pixels of the image as given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

from torch import Tensor

from queryseg.data.class_table import ClassTable
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.inference.engine import SegmentationEngine, SegmentEngine, Size
from queryseg.inference.host_copies import upload
from queryseg.inference.windows import show
from queryseg.types import SegmentReading, Task

SegmentTask = Literal["panoptic", "instance"]


def check_task(task: str) -> None:
    """Raises: InputError"""
    if task not in get_args(Task):
        raise InputError(f"The task is {task!r}; choose 'semantic', 'panoptic' or 'instance'.")


def protocol_segments(
    engine: SegmentationEngine,
    image: Tensor,
    protocol: Protocol,
    classes: ClassTable,
    task: SegmentTask = "panoptic",
    size: Size | None = None,
) -> SegmentReading:
    """The segments of one image on the engine's device.

    image    (3, H, W) uint8 RGB
    classes  says which are things
    size     (H, W) of the segment map; None: the image's own

    Raises: InputError for windows, exported files, readouts and class tables that know no objects
    """
    if not isinstance(engine, SegmentEngine):
        raise InputError(f"{type(engine).__name__} gives labels or scores, not {task} segments; use the run itself.")
    if protocol.window is not None:
        raise InputError(
            f"Segments of sliding windows are not joined: the protocol is {protocol}, but the task '{task}' needs "
            "whole images; leave the windows out (window 0 on the command line) or choose the task 'semantic'."
        )
    if not classes.things:
        raise InputError(
            f"No class of '{classes.name}' is a thing, so there are no objects to tell apart; use a class table with "
            "`things`, or the task 'semantic'."
        )
    shown = upload(show(image, protocol), engine.device)
    reading = engine.read(shown[None], (image.shape[1], image.shape[2]) if size is None else size)
    read = engine.readout.panoptic if task == "panoptic" else engine.readout.instances
    return read(*reading, classes.things)[0]


def panoptic_maps(
    engine: SegmentationEngine,
    image: Tensor,
    protocol: Protocol,
    classes: ClassTable,
    size: Size | None = None,
    task: SegmentTask = "panoptic",
) -> tuple[Tensor, Tensor]:
    """label_map (H, W) uint8, 255 = nothing, and instance_map (H, W) int32: on things the number of the object, 0
    elsewhere, as panoptic quality compares them. See `protocol_segments`."""
    return protocol_segments(engine, image, protocol, classes, task, size).maps(classes.things)


def segment_finder(task: Task) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """`panoptic_maps` for evaluation; None for models that tell no objects apart."""
    return None if task == "semantic" else partial(panoptic_maps, task=task)
