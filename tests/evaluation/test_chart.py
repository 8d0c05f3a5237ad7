import numpy as np

from queryseg.evaluation.chart import Chart, fitted, text_width


def test_long_names_are_cut() -> None:
    assert fitted("road", 150) == "road"
    cut = fitted("an extraordinarily long name of a class", 100)
    assert cut.endswith("…")
    assert text_width(cut) <= 100 < text_width("an extraordinarily long name of a class")


def test_a_chart_has_two_pixels_per_pixel_of_the_page() -> None:
    chart = Chart(20, 10)
    chart.rectangle((5, 2, 15, 8), (10, 20, 30))
    pixels = np.asarray(chart.picture())
    assert pixels.shape == (20, 40, 3)
    assert (pixels[4:16, 10:30] == (10, 20, 30)).all()
    assert (pixels[:4] == 255).all()
    assert (pixels[:, 30:] == 255).all()
