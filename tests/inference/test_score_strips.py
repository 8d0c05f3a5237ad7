import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.inference import score_strips, windows
from queryseg.inference.engine import Finding
from queryseg.inference.predictor import Predictor
from queryseg.inference.score_strips import enlarged_strips, window_boxes, window_strips
from queryseg.inference.windows import protocol_labels, windowed_if_large


class Coloured:
    """An engine that sees one pixel and its place in the window, so that overlaps matter; notes what it was shown."""

    device = torch.device("cpu")
    class_names = ("red", "green", "blue", "edge")

    def __init__(self) -> None:
        self.shown: list[tuple[int, ...]] = []

    def find(self, images, size=None):
        self.shown.append(tuple(images.shape))
        batch, _, height, width = images.shape
        edge = torch.linspace(0, 300, width).expand(batch, 1, height, width)
        scores = torch.cat([images.float(), edge], 1)
        return Finding(lambda: scores.argmax(1).byte(), lambda: scores)


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def whole_way(engine, image, window, stride):
    """All scores at once, window by window: what strips must equal bit for bit."""
    total, count = torch.zeros(4, *image.shape[1:]), torch.zeros(image.shape[1:])
    for top, left, bottom, right in window_boxes(*image.shape[1:], window, stride):
        total[:, top:bottom, left:right] += engine.find(image[None, :, top:bottom, left:right]).scores()[0]
        count[top:bottom, left:right] += 1
    return total / count


grids = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20)).flatmap(
    lambda sizes: st.tuples(st.just(sizes[0]), st.just(sizes[1]), st.just(sizes[2]), st.integers(1, sizes[2]))
)


@given(grids, st.integers(1, 1500))
def test_strips_are_the_scores_of_all_windows_bit_for_bit(grid, pixels):
    """However windows are batched, strips follow each other without gap, and none is higher than a window."""
    height, width, window, stride = grid
    image = picture(height, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_strips, "PIXELS_PER_PASS", pixels)
        strips = [(first, scores.clone()) for first, scores in window_strips(Coloured(), image, window, stride)]
    ends = [0]
    for first, scores in strips:
        assert first == ends[-1]
        assert scores.shape[1] <= window
        ends.append(first + scores.shape[1])
    assert ends[-1] == height
    assert torch.equal(torch.cat([scores for _, scores in strips], 1), whole_way(Coloured(), image, window, stride))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 200), st.integers(1, 50), st.integers(1, 9))
def test_enlarged_strips_are_interpolated_scores(height, width, tall, wide, rows):
    """Equal to torch's bilinear resizing within rounding, larger or smaller, however the strips are cut."""
    scores = torch.randn(3, height, width, generator=torch.Generator().manual_seed(height))
    parts = ((first, scores[:, first : first + rows]) for first in range(0, height, rows))
    found = list(enlarged_strips(parts, (height, width), (tall, wide)))
    expected = F.interpolate(scores[None], (tall, wide), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.cat([part for _, part in found], 1), expected, rtol=0, atol=2e-5)
    assert [first for first, _ in found] == [0, *torch.tensor([part.shape[1] for _, part in found]).cumsum(0)[:-1]]
    assert max(part.shape[1] for _, part in found) <= 64


@pytest.mark.parametrize("protocol", [Protocol(window=32, stride=20), Protocol(window=48, stride=48)], ids=str)
def test_large_images_get_the_labels_of_the_plain_way(engine, image, protocol, monkeypatch):
    """A real model; the scores are never whole."""
    with torch.no_grad():
        plain = protocol_labels(engine, image, protocol)
        monkeypatch.setattr(windows, "SCORES_LIMIT", 1)
        monkeypatch.setattr(windows, "sliding_scores", None)
        strips = protocol_labels(engine, image, protocol)
    assert len(plain.unique()) > 1
    assert torch.equal(strips, plain)


@pytest.mark.parametrize("protocol", [Protocol(24, 24, 16), Protocol(56, 32, 20), Protocol(20)], ids=str)
def test_large_images_that_are_resized_differ_by_rounding_at_most(engine, image, protocol, monkeypatch):
    """Of whole images by the place where scores are enlarged from, too: at least 97 % of labels stay."""
    with torch.no_grad():
        plain = protocol_labels(engine, image, protocol)
        monkeypatch.setattr(windows, "SCORES_LIMIT", 1)
        monkeypatch.setattr(windows, "WHOLE_SCORES_LIMIT", 1)
        strips = protocol_labels(engine, image, protocol)
    assert strips.shape == plain.shape
    same = (strips == plain).float().mean()
    assert same >= (0.97 if protocol.window is None else 0.999)


def test_images_too_large_to_be_shown_whole_are_shown_in_windows(engine, image, monkeypatch):
    """What a user asks for stays as it is as long as it can be."""
    assert windowed_if_large(Protocol(), (5760, 5760)) == Protocol()
    assert windowed_if_large(Protocol(), (10_000, 20_000)) == Protocol(window=512, stride=341)
    assert windowed_if_large(Protocol(short_side=512), (10_000, 20_000)) == Protocol(short_side=512)
    assert windowed_if_large(Protocol(window=1024), (10_000, 20_000)) == Protocol(window=1024)
    monkeypatch.setattr(windows, "WHOLE_LIMIT", 40 * 72 - 1)
    shown: list[Protocol] = []
    monkeypatch.setattr(
        "queryseg.inference.predictor.protocol_labels",
        lambda engine, image, protocol: shown.append(protocol) or torch.zeros(40, 72, dtype=torch.uint8),
    )
    Predictor(engine.model, ["a"] * 4, device="cpu").predict(image)
    assert shown == [Protocol(window=512, stride=341)]


def test_windows_of_a_large_image_are_never_shown_together():
    """A forward pass sees at most a megapixel, whatever the image."""
    engine = Coloured()
    protocol_labels(engine, picture(700, 1500), Protocol(window=256, stride=200))
    assert max(batch * height * width for batch, _, height, width in engine.shown) <= 2**20


def test_a_large_image_of_a_file_without_scores(monkeypatch):
    """It enlarges its labels, as it does with every image."""

    class LabelsOnly(Coloured):
        def find(self, images, size=None):
            labels = images[:, 0] // 64
            return Finding(lambda: F.interpolate(labels[:, None], size or labels.shape[1:])[:, 0], self.refuse)

        def refuse(self):
            raise InputError("no scores")

    monkeypatch.setattr(windows, "WHOLE_SCORES_LIMIT", 1)
    image = picture(8, 12)
    labels = protocol_labels(LabelsOnly(), image, Protocol(short_side=4))
    assert labels.shape == (8, 12)
    assert torch.equal(labels[::2, ::2], labels[1::2, 1::2])
