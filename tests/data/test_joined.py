"""Layout joined: parts one after another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from queryseg.data.data_file import open_data
from queryseg.data.dataset import read_label_map, sample_name
from queryseg.errors import InputError

CLEAR, FOG = (
    {"layout": "streets", "domain": d, "num_images": n, "size": [48, 96]} for d, n in (("clear", 2), ("fog", 3))
)


def test_samples_follow_each_other():
    joined, clear, fog = (open_data(source) for source in ({"layout": "joined", "parts": [CLEAR, FOG]}, CLEAR, FOG))
    assert len(joined) == 5
    assert joined.name == "streets_clear"
    for place, (part, index) in {1: (clear, 1), 2: (fog, 0), 4: (fog, 2)}.items():
        assert torch.equal(joined[place].image, part[index].image)
        assert sample_name(joined, place) == sample_name(part, index)
        assert torch.equal(read_label_map(joined, place), part[index].label_map)
    with pytest.raises(IndexError, match="sample 5 of 5"):
        joined[5]


def test_parts_need_one_class_table_and_there_must_be_one(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / folder / "a.png")
    other = {"layout": "folders", "root": str(tmp_path), "classes": ["a", "b"]}
    with pytest.raises(InputError, match="different classes"):
        open_data({"layout": "joined", "parts": [CLEAR, other]})
    with pytest.raises(InputError, match="'parts' is empty"):
        open_data({"layout": "joined", "parts": []})
