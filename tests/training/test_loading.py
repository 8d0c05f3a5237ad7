"""What is said of data sets before a model is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from queryseg.errors import InputError
from queryseg.training.loading import check_sources

STREETS = {"layout": "streets", "domain": "fog"}


def data(root: Path, train: Any, **validate: Any) -> dict[str, Any]:
    return {"root": str(root), "train": train, "validate": validate}


def test_a_root_that_is_missing_is_found_in_any_of_the_data_sets(tmp_path: Path) -> None:
    (tmp_path / "city").mkdir()
    there, gone = ({"layout": "cityscapes", "root": name} for name in ("city", "town"))
    check_sources(data(tmp_path, there, fog=STREETS))
    for sources in (data(tmp_path, gone), data(tmp_path, there, night=gone)):
        key = "data.validate.night" if sources["validate"] else "data.train"
        with pytest.raises(InputError, match=rf"^{key}: there is no folder or archive '{tmp_path / 'town'}'"):
            check_sources(sources)
    file = tmp_path / "city" / "data.yaml"
    file.write_text(yaml.safe_dump({"layout": "cityscapes", "root": "."}))  # starts from its own folder
    check_sources(data(tmp_path / "nowhere", str(file)))


def test_a_misspelt_option_of_validation_is_found_before_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'domain'"):
        check_sources(data(tmp_path, STREETS, fog={"layout": "streets", "domian": "fog"}))
