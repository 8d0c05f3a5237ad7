import numpy as np
import pytest
from scipy.stats import kstest, poisson

from queryseg.data.corruptions.draws import Draws
from queryseg.data.corruptions.noise import (
    GAUSSIAN_NOISE,
    IMPULSE_NOISE,
    SHOT_NOISE,
    SPECKLE_NOISE,
    gaussian_noise,
    impulse_noise,
    shot_noise,
    speckle_noise,
)

GREY = np.full((3, 200, 300), 128 / 255, np.float32)


def test_gaussian_noise_has_the_published_deviation_before_clipping() -> None:
    assert GAUSSIAN_NOISE[4] == 0.38
    for deviation in GAUSSIAN_NOISE:
        noise = gaussian_noise(GREY, deviation, Draws("n")) - GREY
        assert noise.std() == pytest.approx(deviation, rel=0.01)
        assert abs(noise.mean()) < 0.003
    assert kstest(noise.ravel(), "norm", (0, 0.38)).pvalue > 0.01


def test_halving_an_image_halves_the_deviation() -> None:
    """Why level 5 on an image of half the size is about level 3 on the whole: 0.38 → 0.19."""
    noise = gaussian_noise(GREY, GAUSSIAN_NOISE[4], Draws("n")) - GREY
    halved = noise.reshape(3, 100, 2, 150, 2).mean((2, 4))
    assert halved.std() == pytest.approx(0.19, rel=0.02)
    assert abs(halved.std() - GAUSSIAN_NOISE[2]) < 0.015


def test_channels_draw_for_themselves() -> None:
    noise = gaussian_noise(GREY, 0.1, Draws("n")) - GREY
    correlation = np.corrcoef(noise.reshape(3, -1))
    assert abs(correlation[np.triu_indices(3, 1)]).max() < 0.02


@pytest.mark.parametrize("photons", SHOT_NOISE)
def test_shot_noise_is_poisson_at_every_level(photons: float) -> None:
    image = np.repeat(np.array([0, 1, 40, 128, 255], np.float32) / 255, 40_000).reshape(1, 5, -1)
    counts = np.rint(shot_noise(image, photons, Draws("n")) * photons).astype(int)[0]
    assert (counts[0] == 0).all()
    for row, level in zip(counts[1:], (1, 40, 128, 255), strict=True):
        rate = photons * level / 255
        assert row.mean() == pytest.approx(rate, rel=0.03, abs=0.01)
        assert row.var() == pytest.approx(rate, rel=0.06, abs=0.01)
        for count in (0, int(rate), int(rate) + 2):
            assert (row <= count).mean() == pytest.approx(poisson.cdf(count, rate), abs=0.012)


@pytest.mark.parametrize("amount", IMPULSE_NOISE)
def test_impulse_noise_is_half_salt_half_pepper(amount: float) -> None:
    noisy = impulse_noise(GREY, amount, Draws("n"))
    assert (noisy == 1).mean() == pytest.approx(amount / 2, rel=0.06)
    assert (noisy == 0).mean() == pytest.approx(amount / 2, rel=0.06)
    assert set(np.unique(noisy)) == {0, GREY[0, 0, 0], 1}


def test_speckle_noise_grows_with_the_value() -> None:
    for deviation in SPECKLE_NOISE:
        for value in (0.0, 0.2, 0.9):
            plane = np.full((3, 100, 100), value, np.float32)
            noise = speckle_noise(plane, deviation, Draws("n")) - plane
            assert noise.std() == pytest.approx(value * deviation, rel=0.03)
