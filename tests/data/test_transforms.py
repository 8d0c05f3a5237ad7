from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Generator

from queryseg.data.transforms import SHORT_SIDES, TrainingTransform, _resize_window, _support, distorted
from queryseg.errors import InputError
from queryseg.types import Sample


def generator(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def street(height: int = 60, width: int = 100) -> Sample:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))
    label_map = torch.arange(height, dtype=torch.uint8)[:, None].repeat(1, width) // 10
    return Sample(image, label_map, "street")


def test_short_sides_of_the_protocol() -> None:
    assert SHORT_SIDES == (256, 307, 358, 409, 460, 512, 563, 614, 665, 716, 768, 819, 870, 921, 972, 1024)


def test_a_function_of_sample_and_generator() -> None:
    transform = TrainingTransform((32, 48), (30, 40, 80))
    state = torch.get_rng_state()
    first, again, other = (transform(street(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.label_map, again.label_map)
    assert not torch.equal(first.image, other.image)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.image.shape == (3, 32, 48)
    assert first.label_map.shape == (32, 48)
    assert first.image.dtype == first.label_map.dtype == torch.uint8
    assert first.name == "street"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_resized_window_equals_a_window_of_the_resized_image(data: st.DataObject) -> None:
    image = street(data.draw(st.integers(5, 70)), data.draw(st.integers(5, 70))).image
    size = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    top, left = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    height, width = data.draw(st.integers(1, size[0] - top)), data.draw(st.integers(1, size[1] - left))
    whole = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).resize(size[::-1], Image.Resampling.BILINEAR)
    expected = np.asarray(whole, int)[top : top + height, left : left + width]
    found = np.asarray(_resize_window(image, size, (top, left, height, width)), int)
    assert np.abs(found - expected).max() <= 2  # ties, rounded after each of two passes


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 90), st.data())
def test_nothing_beyond_the_support_is_needed(length: int, resized: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, resized - 1))
    num = data.draw(st.integers(1, resized - start))
    values = np.random.default_rng(0).uniform(0, 255, (1, length)).astype(np.float32)
    whole = np.asarray(Image.fromarray(values).resize((resized, 1), Image.Resampling.BILINEAR))[:, start : start + num]
    part, first, last = _support(length, resized, start, num)
    box = (first, 0, last, 1)
    found = np.asarray(Image.fromarray(values[:, part].copy()).resize((num, 1), Image.Resampling.BILINEAR, box=box))
    assert np.abs(found - whole).max() < 1e-2  # without rounding to 8 bits there are no ties


def test_image_and_labels_stay_together() -> None:
    """An image that shows its own labels still does after any resize, crop and flip, away from the edges of classes."""
    label_map = (torch.arange(64)[:, None] // 16 * 4 + torch.arange(96) // 24).to(torch.uint8)
    sample = Sample((label_map * 12).expand(3, -1, -1).contiguous(), label_map, "x")
    transform = TrainingTransform((40, 40), (40, 64, 100, 128), distort=False)
    for seed in range(20):
        result = transform(sample, generator(seed))
        agree = (result.image[0].float() / 12 - result.label_map.float()).abs() < 0.1
        assert agree[result.label_map != 255].float().mean() > 0.75


def test_flip() -> None:
    plain, mirrored = (TrainingTransform((60, 100), (60,), flip=p, distort=False, max_category_share=1) for p in (0, 1))
    a, b = plain(street(), generator(3)), mirrored(street(), generator(3))
    assert torch.equal(a.image, street().image)
    assert torch.equal(b.image, a.image.flip(2))
    assert torch.equal(b.label_map, a.label_map.flip(1))


def test_small_images_are_padded_with_the_mean_and_255() -> None:
    result = TrainingTransform((80, 120), (60,), flip=0, distort=False)(street(), generator(0))
    assert torch.equal(result.image[:, :60, :100], street().image)
    assert (result.image[:, 60:] == torch.tensor([124, 116, 104])[:, None, None]).all()
    assert (result.label_map[60:] == 255).all()
    assert (result.label_map[:, 100:] == 255).all()
    mean, std = torch.tensor([0.485, 0.456, 0.406]) * 255, torch.tensor([0.229, 0.224, 0.225]) * 255
    assert ((result.image[:, -1, -1] - mean) / std).abs().max() < 0.01


def test_long_side_is_limited() -> None:
    transform = TrainingTransform((64, 64), (50,), max_long_side=100)
    assert transform._resized((60, 240), generator(0)) == (25, 100)
    assert transform._resized((60, 60), generator(0)) == (50, 50)


def test_crops_of_one_class_are_drawn_again() -> None:
    label_map = torch.zeros(40, 400, dtype=torch.uint8)
    label_map[:, 300:] = torch.arange(100, dtype=torch.uint8) // 10
    sample = Sample(torch.zeros(3, 40, 400, dtype=torch.uint8), label_map, "x")
    dull = dict.fromkeys((0.75, 1.0), 0)
    for share in dull:
        transform = TrainingTransform((40, 40), (40,), max_long_side=400, max_category_share=share, distort=False)
        for seed in range(100):
            dull[share] += bool((crop := transform(sample, generator(seed)).label_map).min() == crop.max())
    assert dull[1.0] > 50
    assert dull[0.75] < dull[1.0] / 4


def test_crops_are_drawn_again_until_they_show_the_class_that_they_are_for() -> None:
    """20 of 161 places show the right end: 12 % of single tries, and 1 − 0.88¹¹ = 77 % of eleven."""
    label_map = torch.zeros(40, 200, dtype=torch.uint8)
    label_map[:, 180:] = 7
    sample = Sample(torch.zeros(3, 40, 200, dtype=torch.uint8), label_map, "x")

    def shown(min_label_pixels: int | None, label: int | None) -> int:
        transform = TrainingTransform(
            (40, 40), (40,), max_category_share=1, distort=False, min_label_pixels=min_label_pixels
        )
        crops = [transform(sample, generator(seed), label).label_map for seed in range(200)]
        return sum(int((crop == 7).sum()) > (min_label_pixels or 0) for crop in crops)

    assert shown(None, 7) == shown(0, None) < 40
    assert 135 < shown(0, 7) < 173
    assert shown(40 * 20 - 1, 7) > shown(40 * 20, 7) == 0  # more than so many, not as many


def test_images_are_resized_by_a_factor_of_their_own_size() -> None:
    transform = TrainingTransform((8, 8), (1,), max_long_side=1, resize_range=(0.5, 2.0))
    sizes = [transform._resized((100, 200), generator(seed)) for seed in range(300)]
    assert all(abs(width - 2 * height) <= 1 for height, width in sizes)
    heights = sorted(height for height, _ in sizes)
    assert 50 <= heights[0] < 54
    assert 196 < heights[-1] <= 200
    assert heights[150] == pytest.approx(125, abs=12)  # uniform in the factor


def test_labels_of_one_class_end_after_ten_redraws() -> None:
    sample = Sample(torch.zeros(3, 40, 40, dtype=torch.uint8), torch.full((40, 40), 255, dtype=torch.uint8), "x")
    assert (TrainingTransform((20, 20), (40,))(sample, generator(0)).label_map == 255).all()


def test_distortion_stays_in_range_and_has_every_effect() -> None:
    gradient = np.stack(np.broadcast_arrays(np.arange(64)[:, None] * 4, np.arange(64) * 4, 128), -1).astype(np.uint8)
    image = Image.fromarray(gradient)
    results = [np.asarray(distorted(image, generator(seed)), int) for seed in range(80)]
    unchanged = sum((result == gradient).all() for result in results)
    assert 1 <= unchanged <= 15  # one in sixteen is expected
    gains = [result.mean() / gradient.mean() for result in results]
    assert 0.3 < min(gains) < 0.75
    assert 1.25 < max(gains) < 1.8


def test_grey_has_no_hue_to_change() -> None:
    image = Image.new("RGB", (8, 8), (90, 90, 90))
    for seed in range(20):
        pixels = np.asarray(distorted(image, generator(seed)))
        assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"crop": (0, 4)},
        {"short_sides": ()},
        {"short_sides": (0,)},
        {"max_category_share": 0},
        {"flip": 1.5},
        {"resize_range": (2.0, 0.5)},
    ],
)
def test_refused_options(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"'{next(iter(options))}'"):
        TrainingTransform(**options)  # type: ignore[arg-type]


def test_instance_maps_follow_label_maps() -> None:
    """Resized, cropped, mirrored and padded as the label map: a number that is a function of the label stays one; what
    is added has none. Without `instances` the map is dropped."""
    sample = street()
    marked = replace(sample, instance_map=sample.label_map.int() * 1000 + torch.arange(100, dtype=torch.int32) // 50)
    for flip in (0.0, 1.0):
        transform = TrainingTransform((70, 90), (30, 60, 90), flip=flip, distort=False, instances=True)
        for seed in range(8):
            found = transform(marked, generator(seed))
            inside = found.label_map != 255
            assert found.instance_map is not None
            assert found.instance_map.dtype == torch.int32
            assert torch.equal(found.instance_map[inside] // 1000, found.label_map[inside].int())
            assert (found.instance_map[~inside] == 0).all()
            halves = found.instance_map[inside] % 1000  # left half of the stored image: 0, right half: 1
            rows = [found.instance_map[r][inside[r]] % 1000 for r in range(70) if inside[r].any()]
            assert {tuple(row.unique_consecutive().tolist()) for row in rows} <= {
                (0,),
                (1,),
                (1, 0) if flip else (0, 1),
            }
            assert len(halves)
    assert TrainingTransform((70, 90), (60,))(marked, generator(0)).instance_map is None
