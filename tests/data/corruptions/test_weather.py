import numpy as np
import pytest
from numpy.typing import NDArray

from queryseg.data.corruptions.draws import Draws
from queryseg.data.corruptions.frost_texture import FROSTS, frost_texture
from queryseg.data.corruptions.plasma import plasma_fractal, plasma_size
from queryseg.data.corruptions.weather import FOG, FROST, SNOW, fog, frost, snow

Values = NDArray[np.float32]


class Loops(Draws):
    """The random numbers of a fractal in the order in which plain loops over cells take them."""

    def taken(self, size: int, decay: float) -> NDArray[np.float64]:
        heights, step, amplitude = np.zeros((size, size)), size, 1.0
        while step >= 2:
            half, cells = step // 2, size // step
            noise = [self.uniform((cells, cells), -amplitude, amplitude) for _ in range(3)]
            for i in range(cells):
                for j in range(cells):
                    y, x = i * step, j * step
                    corners = [heights[(y + a) % size, (x + b) % size] for a in (0, step) for b in (0, step)]
                    heights[y + half, x + half] = sum(corners) / 4 + noise[0][i, j]
            for i in range(cells):
                for j in range(cells):
                    y, x = i * step, j * step
                    for k, (a, b) in enumerate(((0, half), (half, 0)), 1):
                        around = [(-half, 0), (half, 0), (0, -half), (0, half)]
                        mean = sum(heights[(y + a + c) % size, (x + b + d) % size] for c, d in around) / 4
                        heights[y + a, x + b] = mean + noise[k][i, j]
            step, amplitude = half, amplitude / decay**2
        heights -= heights.min()
        return heights / heights.max()


@pytest.mark.parametrize("decay", [1.4, 2.0])
def test_plasma_fractal_by_loops(decay: float) -> None:
    """Diamond-square cell by cell, continuing at the opposite border."""
    assert plasma_fractal(16, decay, Draws("p")) == pytest.approx(Loops("p").taken(16, decay), abs=1e-5)


@pytest.mark.parametrize(("size", "side"), [((48, 64), 64), ((512, 1024), 1024), ((513, 1025), 2048), ((1, 1), 2)])
def test_the_fractal_covers_images_of_any_size(size: tuple[int, int], side: int) -> None:
    assert plasma_size(*size) == side


@pytest.mark.parametrize("level", range(1, 6))
def test_fog_keeps_the_largest_value_possible(values: Values, level: int) -> None:
    """(x + c f) max / (max + c), f from 0 to 1."""
    constants = FOG[level - 1]
    foggy = fog(values, constants, Draws("f"))
    clouds = (foggy * (1 + constants.brightness) / values.max() - values) / constants.brightness
    assert np.ptp(clouds, 0).max() < 1e-4
    assert clouds.min() >= -1e-4
    assert clouds.max() <= 1 + 1e-4
    assert np.ptp(clouds) > 0.3
    assert foggy.max() <= values.max() + 1e-5


def test_black_stays_black_in_fog() -> None:
    assert fog(np.zeros((3, 8, 8), np.float32), FOG[2], Draws("f")).max() == 0


@pytest.mark.parametrize("level", range(1, 6))
def test_snow_whitens_and_falls(values: Values, level: int) -> None:
    """Nothing gets darker; dark places get at least 0.5 (1 − share); flakes are symmetric under half a turn."""
    constants = SNOW[level - 1]
    snowy = snow(values, constants, Draws("s"))
    assert (snowy >= values - 1e-6).all()
    black = snow(np.zeros((3, 60, 80), np.float32), constants, Draws("s"))[0]
    assert black.min() >= 0.5 * (1 - constants.share) - 1e-6
    assert black == pytest.approx(black[::-1, ::-1], abs=1e-6)
    assert 0.01 < (black > black.min() + 0.05).mean() < 0.95


def test_flakes_are_streaks_from_top_to_bottom() -> None:
    """Moved at 45° to 135°, so that neighbours in a column are more alike than neighbours in a row."""
    black = np.zeros((3, 200, 200), np.float32)
    alike = []
    for key in "abcdefgh":
        flakes = snow(black, SNOW[4], Draws(key))[0]
        down = np.corrcoef(flakes[4:].ravel(), flakes[:-4].ravel())[0, 1]
        right = np.corrcoef(flakes[:, 4:].ravel(), flakes[:, :-4].ravel())[0, 1]
        alike.append(down - right)
    assert np.mean(alike) > 0.1


@pytest.mark.parametrize("number", range(len(FROSTS)))
def test_frost_has_the_colours_and_the_sharpness_of_the_photographs(number: int) -> None:
    texture = frost_texture(number)
    assert texture.shape == (3, *FROSTS[number].size)
    assert texture.mean((1, 2)) == pytest.approx(FROSTS[number].mean, abs=0.01)
    assert texture.std((1, 2)) == pytest.approx(FROSTS[number].deviation, abs=0.01)
    neighbours = 255 * np.abs(np.diff(texture, axis=1)).mean()
    assert neighbours == pytest.approx((8.4, 8.3, 8.3, 14.0, 17.6)[number], rel=0.1)


def test_all_frosts_are_used_and_cropped_anywhere() -> None:
    black = np.zeros((3, 60, 100), np.float32)
    means = {round(float(frost(black, FROST[4], Draws(str(key)))[0].mean()), 1) for key in range(30)}
    assert {0.2, 0.3, 0.6} <= means
    crops = {frost(black, FROST[4], Draws(str(key))).tobytes() for key in range(30)}
    assert len(crops) == 30


@pytest.mark.parametrize("size", [(700, 1400), (1000, 300), (40, 2000)])
def test_frost_covers_images_larger_than_its_textures(size: tuple[int, int]) -> None:
    white = np.ones((3, *size), np.float32)
    frosted = frost(white, FROST[4], Draws("large"))
    assert frosted.shape == (3, *size)
    assert (frosted > 0.6).all()
    assert (frosted <= 1.35 + 1e-6).all()
