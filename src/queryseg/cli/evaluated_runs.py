"""Runs and exported files as `evaluate` is given them: names, models, training domains; all checked before any work."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from queryseg.cli.evaluation_options import chosen_protocol
from queryseg.cli.run_options import asked_classes, tell_base, tell_classes
from queryseg.data.dataset import SegmentationDataset, layout_and_split
from queryseg.data.protocol import Protocol, ProtocolPreset, protocol_of
from queryseg.errors import UsageError
from queryseg.evaluation.class_agreement import check_classes, check_same_classes
from queryseg.evaluation.domain_table import RunFacts
from queryseg.inference.engine import Engine, SegmentationEngine
from queryseg.inference.open_vocabulary import with_classes
from queryseg.inference.predictor import recorded_protocol, recorded_task
from queryseg.inference.run_folder import bases_for, read_model
from queryseg.loading import is_exported
from queryseg.segmenter import Segmenter
from queryseg.types import Task


@dataclass(frozen=True)
class EvaluatedRun:
    """protocol: how it is shown images; seen: data sets of its training domain, None: the first one; task: that it was
    trained for"""

    path: Path
    model: Segmenter | SegmentationEngine
    protocol: Protocol | ProtocolPreset
    facts: RunFacts
    seen: Sequence[str] | None
    task: Task = "semantic"

    @property
    def engine(self) -> SegmentationEngine:
        return Engine(self.model) if isinstance(self.model, Segmenter) else self.model


def open_runs(
    words: Sequence[str], datasets: Mapping[str, SegmentationDataset], options: argparse.Namespace
) -> dict[str, EvaluatedRun]:
    """Every run by its name, with the same classes as all others and all data sets.

    Raises: UsageError, CheckpointError, RecipeError, InputError
    """
    paths = named_runs(words)
    seen = seen_by_run(options.seen, list(paths), list(datasets))
    bases = bases_for(list(paths.values()), options.base)
    runs = {name: _open(path, bases[path], datasets, seen[name], options) for name, path in paths.items()}
    known = {name: run.engine.class_names for name, run in runs.items()}
    check_same_classes(known)
    for name, dataset in datasets.items():
        check_classes(next(iter(known.values())), dataset, name)
    return runs


def named_runs(words: Sequence[str]) -> dict[str, Path]:
    """[NAME=]RUN → name and path, in order. Without NAME, as much of the path's end as tells the runs apart.

    Raises: UsageError if two runs have one name, or a run is given twice
    """
    parsed = [_parsed(word) for word in words]
    paths = [path for _, path in parsed]
    if len({path.resolve() for path in paths}) < len(paths):
        twice = next(path for i, path in enumerate(paths) if path.resolve() in [p.resolve() for p in paths[:i]])
        raise UsageError(f"The run {twice} is given twice; give every run once.")
    unnamed = [path.resolve().parts for name, path in parsed if name is None]
    depth = 1
    while len({parts[-depth:] for parts in unnamed}) < len(unnamed):
        depth += 1
    runs: dict[str, Path] = {}
    for name, path in parsed:
        name = "/".join(path.resolve().parts[-depth:]) if name is None else name
        if name in runs:
            raise UsageError(f"Two runs are called '{name}'; give every run its own name, as in NAME=RUN.")
        runs[name] = path
    return runs


def _parsed(word: str) -> tuple[str | None, Path]:
    name, equals, path = word.partition("=")
    if not equals or Path(word).exists():
        return None, Path(word)
    if not name or not path:
        raise UsageError(f"A run is given as RUN or NAME=RUN, but given is '{word}'.")
    return name, Path(path)


def seen_by_run(
    words: Sequence[str] | None, runs: Sequence[str], datasets: Sequence[str]
) -> dict[str, list[str] | None]:
    """Run → data sets of its training domain, from words [RUN=]DATA; without RUN it holds for all runs. None for all
    if nothing was said.

    Raises: UsageError for a run or data set that there is not
    """
    if words is None:
        return dict.fromkeys(runs)
    seen: dict[str, list[str]] = {run: [] for run in runs}
    for word in words:
        run, equals, name = word.rpartition("=")
        if equals and run not in seen:
            raise UsageError(f"--seen names the run '{run}', but the runs are called: {', '.join(runs)}.")
        if name not in datasets:
            raise UsageError(f"'{name}' is said to be the training domain, but given are: {', '.join(datasets)}.")
        for one in [run] if equals else runs:
            seen[one].append(name)
    return dict(seen)


def _open(
    path: Path,
    base: Path | None,
    datasets: Mapping[str, SegmentationDataset],
    seen: Sequence[str] | None,
    options: argparse.Namespace,
) -> EvaluatedRun:
    """An exported file must be able to see every data set as the protocol says."""
    if not is_exported(path):
        loaded = with_classes(read_model(path, options.allow_code, base), asked_classes(options), options.text_tower)
        tell_base(path)
        tell_classes(loaded.vocabulary)
        facts = RunFacts.of(loaded.model, loaded.folder, loaded.recipe)
        if loaded.vocabulary is not None:
            facts = replace(facts, checkpoint=f"{facts.checkpoint}; {loaded.vocabulary}")
        protocol = chosen_protocol(options, recorded_protocol(loaded.recipe))
        return EvaluatedRun(path, loaded.model, protocol, facts, seen, recorded_task(loaded.recipe))
    if options.classes is not None or options.text_tower is not None:
        raise UsageError(f"{path} was exported with its classes; leave --classes out, or export the run with them.")
    from queryseg.export.exported_engine import check_protocol, open_exported

    engine = open_exported(path, options.device)
    record = engine.record
    protocol = chosen_protocol(options, record.protocol)
    for layout in {layout_and_split(dataset)[0] for dataset in datasets.values()}:
        check_protocol(protocol_of(protocol, layout), record)
    said = f"{record.format} file in {record.precision}, made of weights {record.weights[:12]}"
    return EvaluatedRun(
        path, engine, protocol, RunFacts(str(path), None, checkpoint=said, versions=record.versions), seen
    )
