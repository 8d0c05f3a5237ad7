import pytest
import torch

from queryseg.data.check import check_data
from queryseg.data.corruptions import Corrupted, corrupt
from queryseg.data.data_file import open_data
from queryseg.data.dataset import FileBacked, layout_and_split
from queryseg.data.ordered_map import ordered_map
from queryseg.data.sampling import Draw, TrainingSet
from queryseg.data.selection import Selection
from queryseg.data.streets import Streets
from queryseg.data.transforms import TrainingTransform
from queryseg.errors import InputError

STREETS = Streets("clear", num_images=4, size=(32, 64))


def test_images_change_and_nothing_else_does() -> None:
    dataset = Corrupted(STREETS, "fog", 3)
    assert dataset.name == "streets_clear/fog-3"
    assert len(dataset) == 4
    assert dataset.classes is STREETS.classes
    for index in range(4):
        sample, clean = dataset[index], STREETS[index]
        assert sample.name == clean.name
        assert torch.equal(sample.label_map, clean.label_map)
        assert torch.equal(sample.image, corrupt(clean.image, "fog", 3, clean.name))


@pytest.mark.parametrize("name", ["snow", "glass_blur", "gaussian_noise", "frost"])
def test_the_same_in_any_order_process_and_selection(name: str) -> None:
    dataset = Corrupted(STREETS, name, 5)
    images = [dataset[index].image for index in (3, 1, 0, 2)]
    elsewhere = ordered_map(lambda index: dataset[index].image, 4, num_workers=2)
    for index, image in enumerate(elsewhere):
        assert torch.equal(image, images[(3, 1, 0, 2).index(index)])
    assert torch.equal(Corrupted(Selection(STREETS, [2]), name, 5)[0].image, images[3])


def test_training_on_corrupted_images() -> None:
    """The transform's own randomness stays that of its draw."""
    transform = TrainingTransform((32, 32), [32], distort=False)
    training = TrainingSet(Corrupted(STREETS, "impulse_noise", 5), transform, 0)
    sample, again = training[Draw(7, 1)], training[Draw(7, 1)]
    clean = TrainingSet(STREETS, transform, 0)[Draw(7, 1)]
    assert torch.equal(sample.image, again.image)
    assert torch.equal(sample.label_map, clean.label_map)
    changed = (sample.image != clean.image).float().mean()
    assert changed == pytest.approx(0.27, abs=0.05)


def test_check_reads_through() -> None:
    dataset = Corrupted(STREETS, "pixelate", 1)
    assert isinstance(dataset, FileBacked)
    assert torch.equal(dataset.read_label_map(2), STREETS[2].label_map)
    assert dataset.problems() == ()
    assert check_data(dataset).ok


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="Did you mean 'frost'"):
        Corrupted(STREETS, "frosst", 3)
    with pytest.raises(InputError, match="Severity 7"):
        Corrupted(STREETS, "frost", 7)


def test_protocols_see_the_layout() -> None:
    """A preset's rule for a data set holds for its corrupted images, too."""
    streets = open_data({"layout": "streets", "domain": "clear", "num_images": 1, "size": [32, 64]})
    assert layout_and_split(Corrupted(streets, "fog", 1)) == ("streets", None)
