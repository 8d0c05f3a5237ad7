"""How long runs take for an image, measured in turns; a small benchmark beside an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from queryseg.benchmarking.machine import cpu_name
from queryseg.benchmarking.rounds import take_turns, timed
from queryseg.data.protocol import Protocol
from queryseg.evaluation.evaluator import Progress, untouched
from queryseg.evaluation.matrix.latency import Latency
from queryseg.inference.engine import SegmentationEngine
from queryseg.inference.windows import protocol_labels

WARMUP = 2


def measure_latencies(
    engines: Mapping[str, tuple[SegmentationEngine, Protocol]],
    images: Sequence[Tensor],
    num_rounds: int,
    progress: Progress | None = None,
) -> dict[str, Latency]:
    """Milliseconds from an image in memory to its labels, in memory again, at the image's own size.

    engines     run → what it is and how it is shown images
    images      (3, H, W) uint8 RGB, the same ones for every run; a round's time is their mean
    num_rounds  that count, after two or more of warm-up
    progress    called with (turns done, turns in all)

    Resizing, copies to and from the device, the network, the readout and its enlargement are timed; reading and
    decoding files is not. Every run has one turn per round, in an order that changes from round to round.
    """

    def labels_of_all(engine: SegmentationEngine, protocol: Protocol) -> None:
        for image in images:
            protocol_labels(engine, image, protocol).cpu()

    def turn(engine: SegmentationEngine, protocol: Protocol) -> Mapping[str, float]:
        return {"labels": timed(lambda: labels_of_all(engine, protocol), engine.device)}

    with ExitStack() as stack, torch.no_grad():
        for engine, _ in engines.values():
            stack.enter_context(untouched(engine))
        tasks = [
            lambda engine=engine, protocol=protocol: turn(engine, protocol) for engine, protocol in engines.values()
        ]
        found = take_turns(tasks, num_rounds, WARMUP, progress)
    sizes = sorted({f"{image.shape[2]}×{image.shape[1]}" for image in images})
    number = f"{len(images)} image{'s'[: len(images) > 1]} of {', '.join(sizes)} pixels"
    includes = (
        f"{number}, from an image in memory to its labels in memory (resizing, network, readout; no file is read)"
    )
    latencies = {}
    for (run, (engine, _)), parts in zip(engines.items(), found.seconds, strict=True):
        milliseconds = [1000 * seconds / len(images) for seconds in parts["labels"]]
        latencies[run] = Latency(milliseconds, includes, _machine(engine.device), found.settled)
    return latencies


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{cpu_name()}, {threads} thread{'s'[: threads > 1]}"
