import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from queryseg.cli.main import main
from queryseg.data.class_table import class_table
from queryseg.data.data_file import open_data
from queryseg.data.data_identity import DataIdentity
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.folders import Folders
from queryseg.data.sampling import StepBatchSampler, shard_order
from queryseg.data.shard_writer import write_shards
from queryseg.data.shards import Shards
from queryseg.errors import InputError
from queryseg.types import Sample

CLASSES = {"name": "city", "names": ["road", "car"], "colors": [[1, 2, 3], [4, 5, 6]], "things": ["car"]}
MADE_OF = {"layout": "mapillary", "root": "/data", "options": "{}"}


class Objects(SegmentationDataset):
    """Made in memory, with objects; names have dots and slashes."""

    name, classes = "objects", class_table(CLASSES)

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, 6, 8), dtype=torch.uint8, generator=generator)
        label_map = torch.randint(0, 2, (6, 8), dtype=torch.uint8, generator=generator)
        label_map[0] = 255
        return Sample(image, label_map, f"city.x/{index}.a", label_map.eq(1).int() * (index + 60_000))


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Twelve JPEGs with noise, so that they cannot be encoded again without a change."""
    draw = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / "plain" / kind / "a").mkdir(parents=True)
    for i in range(12):
        Image.fromarray(draw.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / f"plain/images/a/{i:02}.jpg")
        labels = draw.choice(np.array([7, 26, 0], np.uint8), (20, 30))
        Image.fromarray(labels).save(tmp_path / f"plain/labels/a/{i:02}.png")
    label_map = {"road": 7, "car": 26, "ignore": 0}
    return Folders(tmp_path / "plain", classes=class_table(CLASSES), label_map=label_map)


def samples(dataset: SegmentationDataset) -> Iterator[tuple[Any, ...]]:
    for i in range(len(dataset)):
        sample = dataset[i]
        instances = None if sample.instance_map is None else sample.instance_map.tolist()
        yield sample.name, sample.image.tolist(), sample.label_map.tolist(), instances


def test_shards_hold_the_same_samples(folders, tmp_path):
    """Names, pixels, final labels, classes; image files keep their bytes; two processes write the same files."""
    write_shards(folders, tmp_path / "out", MADE_OF, shard_bytes=12_000)
    shards = Shards(tmp_path / "out")
    assert list(samples(shards)) == list(samples(folders))
    assert shards.classes == folders.classes
    assert (shards.name, shards.layout) == ("plain", "mapillary")
    image, label = shards.files(3)
    assert image.read_bytes() == (tmp_path / "plain/images/a/03.jpg").read_bytes()
    assert (label.name, image.name) == ("00000003.label.png", "00000003.jpg")
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) > 3
    assert all(file.stat().st_size <= 12_000 + 10_240 for file in files[1:])
    write_shards(folders, tmp_path / "again", MADE_OF, shard_bytes=12_000, num_workers=2)
    assert [file.read_bytes() for file in files] == [f.read_bytes() for f in sorted((tmp_path / "again").iterdir())]


def test_objects_and_odd_names_survive(tmp_path):
    """Data made in memory become PNG; object numbers above 255 stay."""
    write_shards(Objects(3), tmp_path, MADE_OF)
    assert list(samples(Shards(tmp_path))) == list(samples(Objects(3)))
    assert Shards(tmp_path)[2].instance_map.dtype == torch.int32
    assert Shards(tmp_path).sample_name(1) == "city.x/1.a"


def test_the_tars_are_webdataset_s(tmp_path):
    """Its rule, written out: the key ends at the first dot of the file's name, and a sample's files stand together."""
    write_shards(Objects(5), tmp_path, MADE_OF, shard_bytes=9_000)
    seen: list[str] = []
    for shard in sorted(tmp_path.glob("*.tar")):
        with tarfile.open(shard) as archive:
            for member in archive:
                key, _, ending = member.name.partition(".")
                assert ending in ("png", "label.png", "instance.png", "meta.json")
                if not seen or seen[-1] != key:
                    seen.append(key)
                if ending == "meta.json":
                    content = archive.extractfile(member)
                    assert content is not None
                    assert json.load(content) == {"name": f"city.x/{int(key)}.a"}
    assert seen == [f"{i:08d}" for i in range(5)]


def test_training_reads_few_shards_at_a_time():
    """Every sample once per epoch, eight shards at a time, another order in every epoch; resuming changes nothing."""
    sizes = [5, 9, 2, 7] * 5
    shard_of = torch.arange(20).repeat_interleave(torch.tensor(sizes))
    order = shard_order(sizes, torch.Generator().manual_seed(0))
    assert order.sort().values.tolist() == list(range(sum(sizes)))
    assert not torch.equal(order, shard_order(sizes, torch.Generator().manual_seed(1)))
    first_use = {int(s): int((shard_of[order] == s).nonzero()[0]) for s in range(20)}
    last_use = {int(s): int((shard_of[order] == s).nonzero()[-1]) for s in range(20)}
    open_at_once = max(sum(first_use[s] <= i <= last_use[s] for s in range(20)) for i in range(sum(sizes)))
    assert 1 < open_at_once <= 8
    whole = list(StepBatchSampler(sum(sizes), 4, 0, 0, 70, shards=sizes))
    resumed = list(StepBatchSampler(sum(sizes), 4, 0, 40, 70, shards=sizes))
    assert whole[40:] == resumed
    epochs = [draw.index for batch in whole for draw in batch]
    assert sorted(epochs[:115]) == sorted(epochs[115:230]) == list(range(115))
    assert epochs[:115] != epochs[115:230]


def test_few_shards_are_mixed_as_any_data_set_is():
    """So that small data sets train bit for bit as from folders."""
    assert list(StepBatchSampler(30, 4, 0, 0, 9, shards=[10] * 3)) == list(StepBatchSampler(30, 4, 0, 0, 9))


def test_the_verb(folders, tmp_path, capsys):
    data = tmp_path / "plain" / "data.yaml"
    data.write_text("layout: folders\nclasses: [road, car]\nlabel_map: {road: 7, car: 26, ignore: 0}\nname: city\n")
    out = tmp_path / "out"
    arguments = ["data", "shard", str(data), "--out", str(out), "--workers", "0"]
    assert main([*arguments, "--size", "12KB", "--json", str(tmp_path / "result.json")]) == 0
    assert json.loads((tmp_path / "result.json").read_text())["shards"] == len(list(out.glob("*.tar"))) > 2
    shards = open_data(out / "data.yaml")
    assert (shards.name, shards.layout, len(shards)) == ("city", "folders", 12)
    assert list(samples(shards)) == list(samples(open_data(data)))
    assert DataIdentity.of(out / "data.yaml").same(DataIdentity.of(data)), "shards are the data that they were made of"
    assert main(["data", "check", str(out / "data.yaml"), "--workers", "0"]) == 0
    capsys.readouterr()
    assert main(arguments) == 2
    assert "already holds shards" in capsys.readouterr().err
    assert main([*arguments[:-2], "--size", "12 apples"]) == 2
    assert "--size is '12 apples'" in capsys.readouterr().err


def test_bad_shards_are_one_sentence(tmp_path):
    """Missing, cut off, of another version; a URL."""
    with pytest.raises(InputError, match=r"no shards in .* write them with `queryseg data shard`"):
        Shards(tmp_path)
    write_shards(Objects(3), tmp_path, MADE_OF)
    shard = tmp_path / "shard-000000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:-600])
    with pytest.raises(InputError, match=r"shard-000000\.tar' has [\d,]+ bytes where [\d,]+ are expected"):
        Shards(tmp_path)
    shard.unlink()
    with pytest.raises(InputError, match=r"shard-000000\.tar' cannot be read \(No such file"):
        Shards(tmp_path)
    index = tmp_path / "index.json"
    whole = index.read_text()
    index.write_text(whole[:-40])
    with pytest.raises(InputError, match=r"index\.json' cannot be read"):
        Shards(tmp_path)
    index.write_text(whole.replace('"label"', '"mask"'))
    with pytest.raises(InputError, match=r"index\.json' cannot be read \(KeyError"):
        Shards(tmp_path)
    index.write_text('{"format": 9}')
    with pytest.raises(InputError, match="no index of shards that this version reads"):
        Shards(tmp_path)
    with pytest.raises(InputError, match=r"copy or mount them first"):
        Shards("s3://bucket/shards")
    with pytest.raises(InputError, match="'shuffle' is 'no'"):
        Shards(tmp_path, shuffle="no")


def test_an_unreadable_sample_leaves_no_half_shard(folders, tmp_path):
    (tmp_path / "plain/images/a/05.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"05\.jpg' cannot be read"):
        write_shards(folders, tmp_path / "out", MADE_OF, shard_bytes=12_000)
    assert all(path.name.startswith("shard-") and path.suffix == ".tar" for path in (tmp_path / "out").iterdir())
