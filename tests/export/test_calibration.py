"""Images by which int8 is calibrated."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from queryseg.data.protocol import Protocol
from queryseg.data.streets import DOMAINS
from queryseg.errors import InputError
from queryseg.export.calibration import NUM_STREETS, SHIFTS, calibration

from .conftest import Scenes, export

RECORD = SimpleNamespace(size=(32, 48), dynamic_size=False, mean=(0.5, 0.5, 0.5), protocol=Protocol())


def test_streets_of_every_domain():
    found = calibration(RECORD)
    assert len(found.images) == NUM_STREETS * len(DOMAINS) == sum(found.sources.values())
    assert {tuple(image.shape) for image in found.images} == {(1, 3, 32, 48)}


def test_given_images_and_shifted_ones():
    scenes = Scenes()
    found = calibration(RECORD, {"scenes": scenes})
    assert found.sources == {"scenes": 6, "scenes, shifted": 6}
    own, shifted = torch.cat(found.images[:6]).float(), torch.cat(found.images[6:]).float()
    assert all((a != b).any() for a, b in zip(own, shifted, strict=True))
    again = calibration(RECORD, {"scenes": scenes})
    assert all(torch.equal(a, b) for a, b in zip(found.images, again.images, strict=True))


def test_every_shift_does_what_its_name_says():
    image = Scenes()[0].image
    shifted = {name: shift(image).float() for name, shift in SHIFTS.items()}
    assert all(value.shape == image.shape for value in shifted.values())
    own = image.float()
    assert shifted["darker"].mean() < own.mean() < shifted["brighter"].mean()
    assert shifted["less contrast"].std() < own.std() < shifted["more contrast"].std()

    def roughness(x):
        return x.diff(dim=-1).abs().mean()

    assert roughness(shifted["blurred"]) < roughness(own) < roughness(shifted["noisy"])
    torch.manual_seed(1)
    first = torch.rand(1)
    torch.manual_seed(1)
    SHIFTS["noisy"](image)
    assert torch.equal(first, torch.rand(1)), "the global random state is left alone"


def test_only_int8_is_calibrated(qprompt, tmp_path):
    with pytest.raises(InputError, match="leave out --calibrate"):
        export(qprompt, tmp_path / "model.pt2", "torch", calibration_data={"scenes": Scenes()})
