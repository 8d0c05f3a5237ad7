import numpy as np
import pytest
import torch
from PIL import Image

from queryseg.errors import InputError
from queryseg.inference.image_source import as_image, find_images


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "night/c.png", "notes.txt", ".hidden.png", ".cache/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def names(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_stands_for_its_images_and_those_of_its_subfolders(folder):
    assert names(find_images(folder), folder) == ["a.JPG", "b.png", "night/c.png"]


def test_patterns_and_files(folder):
    assert names(find_images(f"{folder}/*.png"), folder) == ["b.png"]
    assert names(find_images(f"{folder}/**/*.png"), folder) == ["b.png", "night/c.png"]
    assert find_images(str(folder / "a.JPG")) == [folder / "a.JPG"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    (tmp_path / "frame[1].png").touch()
    assert names(find_images(tmp_path / "frame[1].png"), tmp_path) == ["frame[1].png"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("notes.txt", "is no image by its extension"),
        ("empty", "holds no image"),
        ("*.tif", "No image matches"),
        ("frame.png", "There is no '.*frame.png'"),
    ],
)
def test_nothing_found_is_one_sentence(folder, source, message):
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=message) as caught:
        find_images(folder / source)
    assert "\n" not in str(caught.value)


def test_every_form_of_an_image_gives_the_same_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    chw = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    forms = [path, str(path), Image.fromarray(pixels), pixels, pixels[:, ::-1][:, ::-1], chw, torch.from_numpy(chw)]
    for form in forms:
        assert torch.equal(as_image(form), torch.from_numpy(chw))


def test_orientation_of_files_and_pictures_is_applied(tmp_path):
    picture = Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° to view
    picture.save(tmp_path / "phone.png", exif=exif)
    from_file = as_image(tmp_path / "phone.png")
    assert from_file.shape == (3, 3, 2)
    with Image.open(tmp_path / "phone.png") as opened:
        assert torch.equal(as_image(opened), from_file)


def test_a_tiny_array_is_rows_first():
    pixels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert as_image(pixels)[0, 0, 1] == pixels[0, 1, 0]
    assert as_image(torch.from_numpy(pixels))[0, 0, 1] == pixels[0, 0, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((6, 9, 3), np.float32), r"\(3, 6, 9\) of float32, but an image array is"),
        (np.zeros((6, 9), np.uint8), r"\(6, 9\) of uint8, but an image array is"),
        (np.zeros((0, 9, 3), np.uint8), r"\(3, 0, 9\) of uint8"),
        (torch.zeros(6, 9, 3, dtype=torch.uint8), r"\(6, 9, 3\) of uint8, but an image tensor is"),
        (torch.zeros(1, 3, 6, 9, dtype=torch.uint8), "image tensor"),
        (torch.zeros(3, 6, 9), "of float32, but an image tensor is"),
        (Image.new("F", (3, 3)), "pixel mode F"),
        (Image.new("I;16", (3, 3)), "pixel mode I;16"),
        (b"bytes", "given as bytes"),
    ],
)
def test_what_is_no_image_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        as_image(wrong)
