"""What every benchmark writes beside its figures: the machine and the versions."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from queryseg.benchmarking.machine import cpu_name


def write_report(path: Path | None, protocol: Mapping[str, Any], results: Mapping[str, Any], *packages: str) -> None:
    """One JSON file; nothing if no path is given. packages: distributions whose versions matter besides torch."""
    if path is None:
        return
    hardware: dict[str, Any] = {"cpu": cpu_name(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name()
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    report = {
        "protocol": dict(protocol),
        "hardware": hardware,
        "versions": versions | {name: version(name) for name in packages},
        "results": dict(results),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
