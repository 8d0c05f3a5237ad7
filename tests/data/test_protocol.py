import json
from dataclasses import asdict

import pytest
import torch

from queryseg.data.protocol import PRESETS, Protocol, find_preset
from queryseg.errors import RecipeError
from queryseg.inference.score_strips import window_boxes
from queryseg.inference.windows import compared_labels, shown_size

SIZES = {"cityscapes": (1024, 2048), "mapillary": (2448, 3264), "bdd100k": (720, 1280), "acdc": (1080, 1920)}


@pytest.mark.parametrize(
    ("preset", "layout", "shown", "num_windows", "compared"),
    [
        ("rein-512", "cityscapes", (512, 1024), 3, (1024, 2048)),
        ("rein-512", "mapillary", (512, 683), 2, (1224, 1632)),
        ("rein-512", "bdd100k", (720, 1280), 8, (720, 1280)),
        ("rein-512", "acdc", (540, 960), 6, (1080, 1920)),
        ("full-res", "cityscapes", (1024, 2048), 18, (1024, 2048)),
        ("full-res", "mapillary", (1024, 1365), 12, (2448, 3264)),
        ("full-res-half-labels", "mapillary", (1024, 1365), 12, (1224, 1632)),
        ("full-res", "bdd100k", (720, 1280), 8, (720, 1280)),
        ("paper", "cityscapes", (512, 1024), 1, (1024, 2048)),
        ("paper", "mapillary", (512, 683), 1, (2448, 3264)),
    ],
)
def test_presets_are_the_table_of_the_field(preset, layout, shown, num_windows, compared):
    """Sizes and numbers of windows that papers report, of images in their data sets' sizes."""
    protocol = find_preset(preset).protocol(layout)
    assert shown_size(SIZES[layout], protocol) == shown
    boxes = [shown] if protocol.window is None else window_boxes(*shown, protocol.window, protocol.stride)
    assert len(boxes) == num_windows
    assert compared_labels(torch.zeros(SIZES[layout], dtype=torch.uint8), protocol).shape == compared


def test_a_preset_depends_on_the_layout_alone():
    """A folder called 'mapillary' is no Mapillary; data without a layout are shown as Cityscapes is."""
    rein = PRESETS["rein-512"]
    assert rein.protocol("folders") == rein.protocol(None) == rein.protocol("cityscapes")
    assert rein.protocol("/data/mapillary") == rein.protocol("cityscapes") != rein.protocol("mapillary")
    with pytest.raises(RecipeError, match=r"no protocol 'rein'.* Did you mean 'rein-512'"):
        find_preset("rein")


def test_protocols_print_themselves_fully():
    rein = PRESETS["rein-512"].in_views(True, (0.75, 1.0))
    said = "rein-512: fit 1024×512, windows 512/341, labels at half size, scales 0.75, 1, flip"
    assert str(rein.protocol("mapillary")) == said
    assert str(PRESETS["paper"].protocol(None)) == "paper: short side 512, whole image, labels at native size"
    assert str(Protocol(window=512)) == "native size, windows 512/341"


def test_a_portrait_image_is_fitted_by_its_long_and_short_side():
    """As mmsegmentation does: a phone's portrait image is as large as its landscape."""
    protocol = PRESETS["rein-512"].protocol("mapillary")
    assert shown_size((3264, 2448), protocol) == (683, 512)


def test_labels_are_halved_by_picking_pixels():
    """No label arises that was not there; an odd last row is dropped."""
    labels = torch.arange(35, dtype=torch.uint8).view(5, 7)
    halved = compared_labels(labels, Protocol(label_reduction=2))
    assert halved.shape == (2, 3)
    assert set(halved.flatten().tolist()) <= set(labels.flatten().tolist())
    assert compared_labels(labels, Protocol()) is labels


def test_records_bring_protocols_back():
    """JSON and YAML know no tuples."""
    protocol = PRESETS["rein-512"].in_views(True, (0.5, 1.0)).protocol("acdc")
    assert Protocol(**json.loads(json.dumps(asdict(protocol)))) == protocol


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": (1024,)}, "fit is"),
        ({"fit": (1024, 512), "short_side": 512}, "give either a short side, or"),
        ({"label_reduction": 0}, "label_reduction is 0"),
        ({"scales": ()}, "scales are"),
        ({"scales": (1.0, 1.0)}, "none twice"),
        ({"scales": (-1.0,)}, "above 0"),
        ({"window": 64, "stride": 65}, "pixels stay unseen"),
    ],
)
def test_impossible_protocols_are_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        Protocol(**options)
