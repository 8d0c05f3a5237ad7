from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.inference import score_strips, windows
from queryseg.inference.engine import Finding
from queryseg.inference.score_strips import window_boxes
from queryseg.inference.windows import (
    batch_labels,
    protocol_labels,
    protocol_scores,
    show,
    shown_size,
    sliding_scores,
)

grids = st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 30)).flatmap(
    lambda sizes: st.tuples(st.just(sizes[0]), st.just(sizes[1]), st.just(sizes[2]), st.integers(1, sizes[2]))
)


@given(grids)
def test_windows_cover_every_pixel_and_have_one_size(grid):
    height, width, window, stride = grid
    covered = torch.zeros(height, width)
    for top, left, bottom, right in window_boxes(height, width, window, stride):
        assert (bottom - top, right - left) == (min(window, height), min(window, width))
        assert top >= 0
        assert left >= 0
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1


@given(grids)
def test_windows_are_those_of_the_field(grid):
    """mmsegmentation's formula, written out."""
    height, width, window, stride = grid
    boxes = []
    for row in range(max(height - window + stride - 1, 0) // stride + 1):
        for column in range(max(width - window + stride - 1, 0) // stride + 1):
            bottom, right = min(row * stride + window, height), min(column * stride + window, width)
            boxes.append((max(bottom - window, 0), max(right - window, 0), bottom, right))
    assert window_boxes(*grid) == boxes


@pytest.mark.parametrize(("size", "number"), [((512, 1024), 3), ((1024, 2048), 18), ((720, 1280), 8), ((540, 960), 6)])
def test_numbers_of_windows_that_papers_report(size, number):
    assert len(window_boxes(*size, 512, 341)) == number


class Scored:
    """The least that an engine must have for windows."""

    def find(self, images):
        return Finding(lambda: self.scores(images).argmax(1).byte(), lambda: self.scores(images))


class Constant(Scored):
    """An engine whose scores are the same everywhere."""

    def __init__(self, values):
        self.values = torch.tensor(values)

    def scores(self, images):
        batch, _, height, width = images.shape
        return self.values[None, :, None, None].expand(batch, -1, height, width)


class Pixelwise(Scored):
    """An engine that sees one pixel at a time, so that windows cannot change what it says."""

    def scores(self, images):
        return torch.cat([images.float(), 255 - images[:, :1].float()], 1)


@given(grids, st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=4))
def test_averages_of_constant_scores_are_constant(grid, values):
    height, width, window, stride = grid
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    scores = sliding_scores(Constant(values), image, window, stride)
    expected = torch.tensor(values)[:, None, None].expand(-1, height, width)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)  # up to 900 float32 additions


@given(grids, st.integers(1, 2000))
def test_scores_land_where_their_pixels_are_however_windows_are_batched(grid, pixels):
    height, width, window, stride = grid
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_strips, "PIXELS_PER_PASS", pixels)
        scores = sliding_scores(Pixelwise(), image, window, stride)
    torch.testing.assert_close(scores, Pixelwise().scores(image[None])[0], rtol=1e-4, atol=1e-5)


def test_overlapping_scores_are_averaged(engine, image):
    with torch.no_grad():
        left, right = (engine.find(image[None, :, :, part]).scores()[0] for part in (slice(48), slice(24, None)))
        found = sliding_scores(engine, image, 48, 24)
    torch.testing.assert_close(found[..., :24], left[..., :24])
    torch.testing.assert_close(found[..., 24:48], (left[..., 24:] + right[..., :24]) / 2)
    torch.testing.assert_close(found[..., 48:], right[..., 24:])


def test_one_window_is_the_whole_image(engine, image):
    with torch.no_grad():
        whole = protocol_scores(engine, image, Protocol())
        window = protocol_scores(engine, image, Protocol(window=80, stride=80))
    assert torch.equal(whole, window)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 1024))
def test_shown_size_keeps_the_ratio_and_has_the_short_side(height, width, short_side):
    shown = shown_size((height, width), Protocol(short_side=short_side))
    assert min(shown) == short_side
    scale = short_side / min(height, width)
    assert abs(shown[0] - height * scale) <= 0.5
    assert abs(shown[1] - width * scale) <= 0.5


def test_an_image_of_the_right_size_is_not_resampled(image):
    assert show(image, Protocol(short_side=40)) is image
    assert show(image, Protocol(short_side=20)).shape == (3, 20, 36)


PROTOCOLS = [Protocol(), Protocol(short_side=32), Protocol(short_side=56), Protocol(None, 32, 20), Protocol(24, 24, 16)]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
@pytest.mark.parametrize("size", [None, (40, 72), (57, 101), (20, 36)])
def test_labels_are_the_likeliest_classes_at_the_label_s_size(engine, image, protocol, size):
    with torch.no_grad():
        labels, scores = protocol_labels(engine, image, protocol, size), protocol_scores(engine, image, protocol, size)
    assert labels.dtype == torch.uint8
    assert labels.shape == scores.shape[1:] == (size or (40, 72))
    assert torch.equal(labels, scores.argmax(0).byte())


def test_labels_at_native_size_are_the_engine_s_own(engine, image):
    with torch.no_grad():
        assert torch.equal(protocol_labels(engine, image, Protocol()), engine(image[None])[0])


def test_scores_of_a_whole_image_are_enlarged_once(engine, image):
    """Straight from the masks' grid: resizing twice would blur."""
    shown = show(image, Protocol(short_side=20))
    with torch.no_grad():
        prediction = engine.model(engine.model.normalise(shown[None])).final
        found = protocol_scores(engine, image, Protocol(short_side=20))
    grid = torch.einsum("bqk,bqhw->bkhw", prediction.class_scores, prediction.mask_logits.sigmoid())
    canvas = engine.model.canvas(20, 36)  # (24, 40), of which the image is the upper left; the label is twice as large
    once = F.interpolate(grid, size=(2 * canvas[0], 2 * canvas[1]), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, once[0, :, :40, :72])


def test_padding_does_not_shift_enlarged_scores(engine):
    """The canvas is stretched with the image, so that a border in the image stays where it is."""
    image = torch.zeros(3, 36, 68, dtype=torch.uint8)
    image[..., 34:] = 255
    with torch.no_grad():
        small = protocol_scores(engine, image, Protocol())
        large = protocol_scores(engine, image, Protocol(), size=(108, 204))
    torch.testing.assert_close(F.avg_pool2d(large, 3)[:, 3:-3, 3:-3], small[:, 3:-3, 3:-3], atol=0.02, rtol=0)


class Symmetric(Pixelwise):
    """Sees pixels one by one, so that a mirror image gets mirrored scores."""

    device = torch.device("cpu")
    class_names = ("r", "g", "b", "dark")

    def find(self, images, size=None):
        size = images.shape[2:] if size is None else size
        scores = F.interpolate(self.scores(images), size, mode="bilinear", align_corners=False)
        return Finding(lambda: scores.argmax(1).byte(), lambda: scores)

    def __call__(self, images, size=None):
        return self.find(images, size).labels()


def picture():
    return torch.randint(0, 256, (3, 40, 72), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(window=24, stride=24), Protocol(short_side=20)], ids=str)
def test_flipping_changes_nothing_for_a_symmetric_model(protocol):
    plain = protocol_scores(Symmetric(), picture(), protocol)
    flipped = protocol_scores(Symmetric(), picture(), replace(protocol, flip=True))
    torch.testing.assert_close(flipped, plain, rtol=1e-5, atol=1e-3)
    if protocol == Protocol():  # (a + a) / 2
        assert torch.equal(flipped, plain)
        assert torch.equal(
            protocol_labels(Symmetric(), picture(), replace(protocol, flip=True)), plain.argmax(0).byte()
        )


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(window=32, stride=20), Protocol(short_side=24)], ids=str)
def test_one_scale_of_one_is_the_plain_way_bit_for_bit(engine, image, protocol):
    with torch.no_grad():
        plain = protocol_scores(engine, image, protocol)
        assert torch.equal(protocol_scores(engine, image, replace(protocol, scales=(1,))), plain)
        assert torch.equal(protocol_labels(engine, image, replace(protocol, scales=(1,))), plain.argmax(0).byte())


def test_views_are_averaged(engine, image):
    """Flip and two scales: four forward passes, mirrored ones mirrored back, at the label's size."""
    protocol = Protocol(flip=True, scales=(0.5, 1))
    with torch.no_grad():
        found = protocol_scores(engine, image, protocol, size=(20, 36))
        views = [show(image, Protocol(), scale) for scale in (0.5, 1)]
        assert [view.shape for view in views] == [(3, 20, 36), (3, 40, 72)]
        expected = sum(
            (
                engine.find(view[None], (20, 36)).scores()[0]
                + engine.find(view.flip(-1)[None], (20, 36)).scores()[0].flip(-1)
            )
            for view in views
        )
    torch.testing.assert_close(found, expected / 4)
    assert not torch.allclose(found, protocol_scores(engine, image, Protocol(), (20, 36)), atol=1e-3)


def test_scales_multiply_the_size_that_the_protocol_shows():
    protocol = Protocol(fit=(1024, 512), window=512, scales=(0.75, 1, 1.25))
    assert [shown_size((1024, 2048), protocol, scale) for scale in protocol.scales] == [
        (384, 768),
        (512, 1024),
        (640, 1280),
    ]


def test_batches_are_seen_in_all_views(engine, image):
    with torch.no_grad():
        labels = batch_labels(engine, torch.stack([image, image.flip(-1)]), Protocol(flip=True))
    assert torch.equal(labels[0], labels[1].flip(-1))


def test_several_views_of_a_very_large_image_are_refused(engine, image, monkeypatch):
    monkeypatch.setattr(windows, "WHOLE_SCORES_LIMIT", 1)
    with pytest.raises(InputError, match=r"2 views at 72×40 pixels .* leave out flip and scales"):
        protocol_labels(engine, image, Protocol(flip=True))


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(16), Protocol(window=512), Protocol(flip=True)], ids=str)
def test_an_image_of_one_pixel(engine, protocol):
    with torch.no_grad():
        labels = protocol_labels(engine, torch.full((3, 1, 1), 200, dtype=torch.uint8), protocol)
    assert labels.shape == (1, 1)
