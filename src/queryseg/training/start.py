"""How a run begins: in a folder of its own, from scratch, from where it stopped, or from the weights of another run."""

from __future__ import annotations

from pathlib import Path

from queryseg.errors import CheckpointError, InputError
from queryseg.inference.run_folder import MODEL, read_weights
from queryseg.segmenter import Segmenter
from queryseg.training.checkpoint import CHECKPOINT
from queryseg.training.loading import CLASS_PIXELS


def prepare_folder(out: Path, resume: bool) -> None:
    """Raises: CheckpointError if there is nothing to resume; InputError if it holds a run or cannot be written."""
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
        for left in out.glob("*.tmp"):  # by a process that was killed while it saved
            left.unlink()
        if not resume:
            (out / CLASS_PIXELS).unlink(missing_ok=True)  # of a run that never got as far as a checkpoint
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); choose another folder with --out.") from None


def start_from_weights(model: Segmenter, source: Path) -> list[str]:
    """Fill what fits by name and shape from a run or a safetensors file, and leave the rest as it is.

    Returns the report, line by line. Raises: CheckpointError if nothing fits.
    """
    weights = read_weights(source / MODEL if source.is_dir() else source)
    own = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise CheckpointError(f"{source} has no tensor in common with this recipe's model; start without --start-from.")
    model.load_state_dict(fitting, strict=False)
    reshaped = [
        f"other shape: {name} ({tuple(value.shape)} there, {tuple(own[name].shape)} here)"
        for name, value in weights.items()
        if name in own and name not in fitting
    ]
    fresh = [f"not there: {name}" for name in own if name not in weights]
    unused = [f"left over: {name}" for name in weights if name not in own]
    summary = (
        f"Started from {source}: {len(fitting)} of {len(own)} tensors taken, {len(reshaped)} of another shape, "
        f"{len(fresh)} not there, {len(unused)} left over."
    )
    return [summary, *reshaped, *fresh, *unused]
