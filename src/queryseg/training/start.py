"""How a run begins: in a folder of its own, from scratch, from where it or another run stopped, or from the weights of
another run."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from queryseg.contracts import Objective
from queryseg.errors import CheckpointError, InputError, UsageError
from queryseg.inference.run_folder import MODEL, Base, base_weights, read_weights
from queryseg.inference.text_prompt import training_weights
from queryseg.segmenter import Segmenter
from queryseg.training.checkpoint import CHECKPOINT
from queryseg.training.loading import CLASS_PIXELS
from queryseg.weight_file import weights_hash


@dataclass(frozen=True)
class Beginning:
    """What a run begins with; see `launch.train`. Raises: UsageError if it is more than one thing."""

    resume: bool = False
    start_from: Path | None = None
    fork: Path | None = None

    def __post_init__(self) -> None:
        ways = {"--resume": self.resume, "--start-from": self.start_from, "--fork": self.fork}
        if len(given := [option for option, value in ways.items() if value]) > 1:
            raise UsageError(f"A run begins in one way, but given are {' and '.join(given)}; give one of them.")


def check_end(until: int | None, steps: int) -> None:
    """Raises: UsageError"""
    if until is not None and not 1 <= until <= steps:
        raise UsageError(f"--until is {until}, but must be a step of the run, from 1 to {steps} (training.steps).")


def prepare_folder(out: Path, resume: bool, fork: Path | None = None) -> None:
    """Raises: CheckpointError if there is nothing to resume or to fork; InputError if it holds a run or cannot be
    written."""
    if fork is not None and not (fork / CHECKPOINT).exists():
        raise CheckpointError(f"{fork} holds no checkpoint ({CHECKPOINT}); fork a run that stopped before.")
    held = (out / CHECKPOINT).exists()
    if resume and not held:
        raise CheckpointError(f"There is nothing to resume in {out}: it has no {CHECKPOINT}; start without --resume.")
    if held and not resume:
        raise InputError(f"{out} already holds a run; continue it with --resume, or choose another folder with --out.")
    probe = out / ".writable"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        for left in out.glob(".*.part"):  # by a process that was killed while it saved
            left.unlink()
        if not resume:
            (out / CLASS_PIXELS).unlink(missing_ok=True)  # of a run that never got as far as a checkpoint
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); choose another folder with --out.") from None


@dataclass(frozen=True)
class TakenWeights:
    """names: tensors of the model that were filled from a file; lines: an account of all others"""

    names: frozenset[str] = frozenset()
    lines: tuple[str, ...] = ()


def start_from_weights(model: Segmenter, source: Path) -> TakenWeights:
    """Fill what fits by name and shape from a run or a safetensors file, and leave the rest as it is.

    Raises: CheckpointError if nothing fits.
    """
    weights = read_weights(weights_file(source)) | training_weights(source)
    own = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise CheckpointError(f"{source} has no tensor in common with this recipe's model; start without --start-from.")
    model.load_state_dict(fitting, strict=False)
    if (adapter := model.backbone.adapter) is not None:
        adapter.initialise(model.backbone)
        model.load_state_dict(fitting, strict=False)  # its own values, if it has any of an adapter
    reshaped = [
        f"other shape: {name} ({tuple(value.shape)} there, {tuple(own[name].shape)} here)"
        for name, value in weights.items()
        if name in own and name not in fitting
    ]
    fresh, unused = own.keys() - weights.keys(), weights.keys() - own.keys()
    summary = (
        f"Started from {source}: {len(fitting)} of {len(own)} tensors taken, {len(reshaped)} of another shape, "
        f"{len(fresh)} not there, {len(unused)} left over."
    )
    lines = [
        *reshaped,
        *(f"not there: {line}" for line in by_part(own, fresh)),
        *(f"left over: {line}" for line in by_part(weights, unused)),
    ]
    return TakenWeights(frozenset(fitting), (summary, *lines))


def by_part(names: Iterable[str], chosen: Set[str]) -> list[str]:
    """The chosen ones of dotted names. The widest part that was chosen whole is one line: "decoder.heads (all 16)"."""
    parts = {name: list(itertools.accumulate(name.split(".")[:-1], "{}.{}".format)) for name in names}
    sizes = Counter(part for around in parts.values() for part in around)
    taken = Counter(part for name in chosen for part in parts[name])
    lines: dict[str, None] = {}
    for name, around in parts.items():
        if name in chosen:
            part = next((part for part in around if taken[part] == sizes[part] > 1), None)
            lines[name if part is None else f"{part} (all {sizes[part]})"] = None
    return list(lines)


def weights_file(source: Path) -> Path:
    """Of a run, or the file itself."""
    return source / MODEL if source.is_dir() else source


def find_base(model: Segmenter, start_from: Path | None) -> Base | None:
    """Where the weights came from that an adapter left as they were; call it when the model is as training begins.

    None, so that the run stores them: without an adapter, and where they came from no file, or only partly.
    """
    weights = base_weights(model)
    if not weights:
        return None
    report = getattr(model.backbone, "weight_report", None)
    source, file = ("" if report is None else report.file), None
    if start_from is not None:
        found = read_weights(weights_file(start_from))
        filled = [name in found and found[name].shape == value.shape for name, value in weights.items()]
        if all(filled):
            source = file = str(weights_file(start_from).resolve())
        elif any(filled):
            return None
    return Base(source, file, weights_hash(weights), len(weights)) if source else None


def take_over(objectives: nn.ModuleDict, state: dict[str, Any], source: Path) -> list[str]:
    """Make the checkpoint of another run fit these objectives: those of the same name, with tensors of the same shapes,
    keep its state, the others begin anew; references that none asks for are dropped. Changes `state`.

    Returns the report.
    """
    own, found = objectives.state_dict(), state["objectives"]
    taken: list[str] = []
    fresh: list[str] = []
    for name, objective in objectives.items():
        mine = {f"{name}.{key}": value.shape for key, value in objective.state_dict().items()}
        theirs = {key: value.shape for key, value in found.items() if key.startswith(f"{name}.")}
        if mine == theirs:
            own |= {key: found[key] for key in theirs}
        if mine:
            (taken if mine == theirs else fresh).append(name)
    state["objectives"] = own
    wanted = {reference for objective in objectives.values() for reference in cast(Objective, objective).references}
    state["references"] = {name: kept for name, kept in state["references"].items() if name in wanted}
    told = [f"Forked from {source} after step {state['step']}."]
    told += [f"state taken over: {', '.join(taken)}"] if taken else []
    return told + ([f"state begins anew: {', '.join(fresh)}"] if fresh else [])
