"""`queryseg.load`: a run's folder or an exported file, by its name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.inference.open_vocabulary import with_classes
from queryseg.inference.precision import InferencePrecision
from queryseg.inference.predictor import Predictor, recorded_protocol, recorded_task
from queryseg.inference.run_folder import read_model
from queryseg.types import Task

EXPORTED = (".onnx", ".xml", ".engine", ".pt2")


def is_exported(path: Path) -> bool:
    """By its name: an exported file, and no run's folder."""
    return path.suffix in EXPORTED and not path.is_dir()


def load(
    source: str | Path,
    allow: Iterable[str] = (),
    device: str | torch.device = "auto",
    protocol: Protocol | None = None,
    precision: InferencePrecision = "fp32",
    compile: bool = False,
    strip_tokens: int | None = None,
    task: Task | None = None,
    base: str | Path | None = None,
    classes: str | Sequence[str] | None = None,
    text_tower: str | Path | None = None,
) -> Predictor:
    """The model of a run folder or of an exported file (.onnx, .xml, .engine, .pt2), ready to predict.

    allow      packages besides queryseg whose classes a run's recipe may name; loading never executes other code
    protocol   None: the one that the run was validated with
    base       where the weights are that a run's adapter was trained on; None: where they were then
    task       "semantic", "panoptic" or "instance"; None: what the run was trained for (exported files: semantic)
    classes    of runs whose queries are texts (tqdm): other classes than those of training, a class table's name or
               class names in label order; None: those of training. text_tower: see `with_classes`

    precision, compile, strip_tokens: of runs, see `Predictor`; exported files bring their own

    Raises: CheckpointError, RecipeError, InputError
    """
    path = Path(source)
    if not is_exported(path):
        run = with_classes(read_model(source, allow, base), classes, text_tower)
        run.model.backbone.merge_adapter()
        shown_as = protocol or recorded_protocol(run.recipe)
        what = recorded_task(run.recipe) if task is None else task
        predictor = Predictor(run.model, run.classes, shown_as, device, precision, compile, strip_tokens, what)
        predictor.vocabulary = run.vocabulary
        return predictor
    if precision != "fp32" or compile or strip_tokens is not None or base is not None:
        raise InputError(f"{path} was exported as it computes; leave out precision, compile, strip_tokens and base.")
    if classes is not None or text_tower is not None:
        raise InputError(f"{path} was exported with its classes; export the run again with --classes.")
    from queryseg.export.exported_engine import load_exported

    return load_exported(path, device, protocol, task or "semantic")
