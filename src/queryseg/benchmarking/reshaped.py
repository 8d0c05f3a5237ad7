"""A run or recipe in the form in which it would be deployed: exported, or with its queries pruned."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast, get_args

from queryseg.benchmarking.candidate import Candidate
from queryseg.benchmarking.exported_candidate import ExportedCandidate
from queryseg.benchmarking.segmenter_candidate import SegmenterCandidate
from queryseg.benchmarking.workload import shown
from queryseg.errors import InputError
from queryseg.export.calibration import streets_of_all_domains
from queryseg.export.export_record import ExportPrecision
from queryseg.export.exported_engine import FORMATS
from queryseg.export.exporter import ExportOptions, write_ungated
from queryseg.inference.engine import Size
from queryseg.spelling import did_you_mean

_PRUNED, _STRIPS = "pruned", "strips"
_STREETS_PER_DOMAIN = 2


def reshaped(of: SegmenterCandidate, form: str, size: Size, device: str) -> Candidate:
    """form  FORMAT or FORMAT:PRECISION, a file of `queryseg export` for images of `size` that exists only as long as it
          is measured and that no parity gate has compared; "pruned", see `prune_queries`, by generated streets;
          "strips:N", masks of N patches at a time, see `Predictor`

    Raises: InputError for a form that there is not, or that the model, the machine or the installation does not allow
    """
    if form == _PRUNED:
        return _pruned(of, size)
    name, _, precision = form.partition(":")
    if name == _STRIPS:
        return _in_strips(of, precision)
    if name not in FORMATS:
        known = (*FORMATS, _PRUNED, _STRIPS)
        raise InputError(f"There is no form '{form}' of {of.name}.{did_you_mean(name, known)}")
    if precision and precision not in get_args(ExportPrecision):
        raise InputError(f"There is no precision '{precision}'.{did_you_mean(precision, get_args(ExportPrecision))}")
    assert of.classes is not None, "segmenters have classes"
    options = ExportOptions(size, cast(ExportPrecision, precision) if precision else None)
    with tempfile.TemporaryDirectory(prefix="queryseg-benchmark-") as folder:
        path = Path(folder) / f"model{FORMATS[name].suffix}"
        write_ungated(of.model, of.classes, name, path, options)
        candidate = ExportedCandidate(f"{of.name}@{form}", path, device)
    candidate.description = f"{of.name} as {name}, {shown(size)}, one image at a time, not compared with it"
    return candidate


def _pruned(of: SegmenterCandidate, size: Size) -> SegmenterCandidate:
    streets = streets_of_all_domains(size, _STREETS_PER_DOMAIN, seed=0).values()
    report = of.predictor.prune(
        sample.image.numpy() for own in streets for sample in map(own.__getitem__, range(len(own)))
    )
    of.name = f"{of.name}@{_PRUNED}"
    of.description += f"; pruned: {report}"
    return of


def _in_strips(of: SegmenterCandidate, patches: str) -> SegmenterCandidate:
    if not patches.isdecimal() or int(patches) < 1:
        raise InputError(f"'{of.name}@{_STRIPS}:{patches}' names no number of patches; write @{_STRIPS}:256.")
    of.model.decoder.strip_tokens = int(patches)
    of.name = f"{of.name}@{_STRIPS}:{patches}"
    of.description += f"; masks of {patches} patches at a time"
    return of
