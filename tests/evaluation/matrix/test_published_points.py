import pytest

from queryseg.errors import InputError
from queryseg.evaluation.matrix.published_points import published_points, settings


def test_every_setting_has_the_networks_and_the_prompted_models():
    """Figures of QPrompt-R1's Tables 1 and 12."""
    assert list(settings()) == ["gtav_to_real", "cityscapes_to_real", "cityscapes_to_acdc"]
    for setting in settings():
        names = [point.name for point in published_points(setting)]
        assert names == ["PIDNet", "SeaFormer", "RTFormer", "SCTNet", "GCNet", "FastSAM", "Grounded SAM"]
    first, *_, last = published_points("cityscapes_to_acdc")
    assert (first.mean_iou, first.milliseconds) == (pytest.approx(0.447), pytest.approx(1000 / 46))
    assert "ACDC" in first.protocol
    assert "Table 1;" in first.protocol
    assert (last.slower, last.milliseconds) == (True, 1000)
    assert "Table 12" in last.protocol


def test_unknown_setting():
    with pytest.raises(InputError, match="Did you mean 'gtav_to_real'"):
        published_points("gta_to_real")
