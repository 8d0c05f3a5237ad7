import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from queryseg.data.archive import ArchivedFile, open_archive
from queryseg.data.data_file import open_data
from queryseg.data.file_tree import FileTree, UnreadableArchiveError, found_in
from queryseg.data.folders import Folders
from queryseg.data.image_file import read_image, read_label
from queryseg.errors import InputError

CLASSES = ["road", "car"]
Files = Mapping[str, bytes]


def write_folder(path: Path, files: Files) -> None:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def write_zip(path: Path, files: Files, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def write_tar(path: Path, files: Files, mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def stored_zip(path: Path, files: Files) -> None:
    write_zip(path, files, zipfile.ZIP_STORED)


WRITERS: dict[str, Callable[[Path, Files], None]] = {"zip": write_zip, "stored.zip": stored_zip, "tar": write_tar}
FILES = {"a/1.txt": b"one", "a/b/2.txt": b"two" * 1000, "ab/3.txt": b"three", "a/4.png": b""}


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def pairs(number: int = 3) -> dict[str, bytes]:
    """A data set of `folders`: grey images 10, 20 … and labels of class 1."""
    images = {f"images/{i}.png": png(np.full((6, 8, 3), 10 * i, np.uint8)) for i in range(1, number + 1)}
    return images | {f"labels/{i}.png": png(np.full((6, 8), 1, np.uint8)) for i in range(1, number + 1)}


@pytest.mark.parametrize("kind", WRITERS)
def test_an_archive_is_read_as_a_folder_is(tmp_path: Path, kind: str) -> None:
    """Same paths in the same order, same bytes; 'a' is no prefix of 'ab'."""
    write_folder(tmp_path / "folder", FILES)
    archive = tmp_path / f"all.{kind}"
    WRITERS[kind](archive, {f"./{name}": content for name, content in FILES.items()})
    plain, packed = FileTree(tmp_path / "folder"), FileTree(archive)
    for folder in ("", "a", "a/b", "ab", "./a/", "nothing"):
        there = {name: file.read_bytes() for name, file in plain.files(folder).items()}
        assert {name: file.read_bytes() for name, file in packed.files(folder).items()} == there
        assert list(packed.files(folder)) == list(there)
        assert packed.folders(folder) == plain.folders(folder)
        assert packed.has_folder(folder) == plain.has_folder(folder)
    assert list(packed.files("a", ".txt")) == ["1.txt", "b/2.txt"]
    assert packed.below("a").file("b/2.txt").read_bytes() == b"two" * 1000
    assert str(packed.file("a/1.txt")) == f"{archive} › a/1.txt"
    assert packed.file("a/1.txt").name == "1.txt"
    assert packed.describe() == "a/, ab/"
    with pytest.raises(InputError, match=r"no file '.*all\..* › a/9\.txt'"):
        packed.file("a/9.txt")


def test_archives_side_by_side_stand_for_what_is_in_them(tmp_path: Path) -> None:
    """As in a Cityscapes root with two zips; an unpacked folder hides the same folder of an archive."""
    write_zip(tmp_path / "leftImg8bit.zip", {"leftImg8bit/val/x/1.png": b"i", "license.txt": b"l"})
    write_zip(tmp_path / "gtFine.zip", {"gtFine/val/x/1.png": b"g", "gtFine/test/y.png": b"t", "license.txt": b"l"})
    tree = FileTree(tmp_path)
    assert tree.folders() == ["gtFine", "leftImg8bit"]
    assert list(tree.files("leftImg8bit/val")) == ["x/1.png"]
    assert str(tree.files("gtFine/val")["x/1.png"]) == f"{tmp_path / 'gtFine.zip'} › gtFine/val/x/1.png"
    assert tree.file("license.txt").read_bytes() == b"l"
    write_folder(tmp_path, {"gtFine/val/x/1.png": b"unpacked"})
    assert tree.file("gtFine/val/x/1.png").read_bytes() == b"unpacked"
    assert {str(f) for f in tree.files("gtFine/val").values()} == {str(tmp_path / "gtFine/val/x/1.png")}
    assert tree.file("gtFine/test/y.png").read_bytes() == b"t"
    write_zip(tmp_path / "gtFine/val/more.zip", {"z.png": b"z"})
    assert list(tree.files("gtFine/val")) == ["x/1.png"]


def test_an_archive_in_a_sub_folder_is_mounted_there(tmp_path: Path) -> None:
    """COCO's panoptic PNGs come as a zip within the unpacked annotations; paths still start from the root."""
    (tmp_path / "annotations").mkdir()
    write_zip(tmp_path / "annotations/panoptic_val.zip", {"panoptic_val/1.png": b"p"})
    assert list(FileTree(tmp_path).files("annotations/panoptic_val")) == ["1.png"]
    assert FileTree(tmp_path, "annotations").file("panoptic_val/1.png").read_bytes() == b"p"


def test_two_archives_must_not_differ_in_a_file(tmp_path: Path) -> None:
    write_zip(tmp_path / "v1.zip", {"gt/1.png": b"old", "readme": b"a"})
    write_zip(tmp_path / "v2.zip", {"gt/1.png": b"new", "readme": b"b"})
    with pytest.raises(InputError, match=r"v1\.zip › gt/1\.png' and '.*v2\.zip › gt/1\.png' are different"):
        FileTree(tmp_path).files("gt")


def test_hidden_files_and_links(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for name in ("a/1.txt", "a/._1.txt", "__MACOSX/1.txt", ".git/1.txt"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"one"))
        link = tarfile.TarInfo("a/2.txt")
        link.type, link.linkname = tarfile.LNKTYPE, "a/1.txt"
        archive.addfile(link)
    files = FileTree(tmp_path / "all.tar").files()
    assert {name: file.read_bytes() for name, file in files.items()} == {"a/1.txt": b"one", "a/2.txt": b"one"}


@pytest.mark.parametrize("kind", WRITERS)
def test_an_archive_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    """Wherever it is cut: within a member, between two members of a tar, in a zip's index."""
    archive = tmp_path / f"all.{kind}"
    WRITERS[kind](archive, FILES)
    content = archive.read_bytes()
    behind_the_last_member = 4 * 512 + (1 + 6 + 1) * 512
    for length in (1, len(content) // 4, len(content) // 2, behind_the_last_member if kind == "tar" else -30):
        archive.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"cut off or damaged .*; download it again"):
            FileTree(archive)


@pytest.mark.parametrize("kind", ["zip", "stored.zip"])
def test_a_damaged_member_is_refused(tmp_path: Path, kind: str) -> None:
    """One flipped bit: the checksum tells."""
    archive = tmp_path / f"all.{kind}"
    WRITERS[kind](archive, FILES)
    content = bytearray(archive.read_bytes())
    member = open_archive(archive).file("a/b/2.txt")
    assert member is not None
    content[member.location.offset + 30 + len("a/b/2.txt") + 4] ^= 1
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"› a/b/2\.txt' is damaged"):
        FileTree(archive).file("a/b/2.txt").read_bytes()


def test_archives_that_cannot_be_read_in_place(tmp_path: Path) -> None:
    write_tar(tmp_path / "all.tar.gz", FILES, "w:gz")
    with pytest.raises(InputError, match=r"all\.tar\.gz' is compressed as a whole"):
        FileTree(tmp_path / "all.tar.gz")
    with pytest.raises(InputError, match=r"no file '.*a/1\.txt'; 'all\.tar\.gz' is compressed as a whole"):
        FileTree(tmp_path).file("a/1.txt")
    write_zip(tmp_path / "locked.zip", FILES)
    content = bytearray((tmp_path / "locked.zip").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the first entry's flags in the index
    (tmp_path / "locked.zip").write_bytes(content)
    with pytest.raises(InputError, match="encrypted"):
        FileTree(tmp_path / "locked.zip")
    write_zip(tmp_path / "odd.zip", FILES, zipfile.ZIP_BZIP2)
    with pytest.raises(InputError, match="compressed by method 12"):
        FileTree(tmp_path / "odd.zip")
    (tmp_path / "data.rar").write_bytes(b"Rar!")
    with pytest.raises(InputError, match=r"neither a \.zip nor a \.tar"):
        FileTree(tmp_path / "data.rar")
    with pytest.raises(InputError, match="no folder or archive"):
        FileTree(tmp_path / "nowhere")


def test_what_a_damaged_archive_stands_in_the_way_of(tmp_path: Path) -> None:
    """Found without it, it may lack a part, and is refused; not found, the other sentence comes first; found outside of
    archives, it is not looked into."""
    (tmp_path / "z.zip").write_bytes(b"no zip")
    write_zip(tmp_path / "a.zip", FILES)

    def names(tree: FileTree) -> list[str]:
        if not (found := list(tree.files("a"))):
            raise InputError(f"The root holds {tree.describe()}.")
        return found

    archive = rf"Archive '{tmp_path}/z\.zip' is cut off or damaged"
    damaged = rf"{archive} \(File is not a zip file\); download it again, or move it away .*\.$"
    with pytest.raises(UnreadableArchiveError, match=f"^{damaged}"):
        found_in(tmp_path, names)
    assert list(FileTree(tmp_path, skip_unreadable=True).below("a").files()) == ["1.txt", "4.png", "b/2.txt"]
    (tmp_path / "a.zip").unlink()
    with pytest.raises(InputError, match=rf"^The root holds z\.zip\. {damaged}"):
        found_in(tmp_path, names)
    write_folder(tmp_path, FILES)
    assert found_in(tmp_path, names) == ["1.txt", "4.png", "b/2.txt"]
    with pytest.raises(InputError, match=r"^There is no folder or archive"):
        found_in(tmp_path / "nowhere", names)


def test_an_archive_that_was_exchanged_is_indexed_again(tmp_path: Path) -> None:
    write_tar(tmp_path / "all.tar", {"1.txt": b"one"})
    assert list(FileTree(tmp_path / "all.tar").files()) == ["1.txt"]
    write_tar(tmp_path / "all.tar", {"2.txt": b"two" * 5000})
    assert list(FileTree(tmp_path / "all.tar").files()) == ["2.txt"]


@pytest.mark.parametrize("kind", WRITERS)
def test_threads_and_processes_share_files(tmp_path: Path, kind: str) -> None:
    """Many readers at once get their own bytes, also from pickled files in a fresh interpreter."""
    contents = {f"{i:03}.txt": str(i).encode() * 4000 for i in range(40)}
    WRITERS[kind](tmp_path / f"all.{kind}", contents)
    files = FileTree(tmp_path / f"all.{kind}").files()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ArchivedFile.read_bytes, list(files.values()) * 5)) == list(contents.values()) * 5
    assert pickle.loads(pickle.dumps(files)) == files
    with get_context("spawn").Pool(1) as pool:
        assert pool.map(ArchivedFile.read_bytes, files.values()) == list(contents.values())


@pytest.mark.parametrize("kind", WRITERS)
def test_images_and_labels_are_those_of_plain_files(tmp_path: Path, kind: str) -> None:
    """All that is read specially: JPEG, an EXIF orientation, 16 bits, a palette; and refusals in the same words."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(
        np.stack(np.broadcast_arrays(np.arange(16)[:, None] * 10, np.arange(24) * 8, 90), -1).astype("u1")
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth.save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(rng.integers(0, 65536, (6, 8)).astype(np.uint16)).save(tmp_path / "wide.png")
    smooth.convert("P").save(tmp_path / "palette.png")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "turned.jpg").read_bytes()[:-40])
    (tmp_path / "text.png").write_bytes(b"no image")
    names = ["turned.jpg", "wide.png", "palette.png", "cut.jpg", "text.png"]
    archive = tmp_path / f"all.{kind}"
    WRITERS[kind](archive, {name: (tmp_path / name).read_bytes() for name in names})
    tree = FileTree(archive)
    for name in names[:3]:
        assert torch.equal(read_image(tree.file(name)), read_image(tmp_path / name))
    for name in names[1:3]:
        assert (read_label(tree.file(name)) == read_label(tmp_path / name)).all()
    for name in names[3:]:
        with pytest.raises(InputError) as plain:
            read_image(tmp_path / name)
        with pytest.raises(InputError) as packed:
            read_image(tree.file(name))
        assert str(packed.value) == str(plain.value).replace(f"{tmp_path}/", f"{archive} › ")
        assert "BytesIO" not in str(plain.value)


@pytest.mark.parametrize("kind", WRITERS)
def test_the_folders_layout_takes_an_archive_as_root(tmp_path: Path, kind: str) -> None:
    """Also through a data file, in a loader's processes, and with a list of files inside the archive."""
    archive = tmp_path / f"set.{kind}"
    WRITERS[kind](archive, {**pairs(), "val.txt": b"images/3.png labels/3.png\n"})
    (tmp_path / "data.yaml").write_text(f"layout: folders\nroot: {archive.name}\nclasses: [road, car]\n")
    dataset = open_data(tmp_path / "data.yaml")
    assert [dataset[i].name for i in range(len(dataset))] == ["1", "2", "3"]
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    assert [int(sample.image[0, 0, 0]) for sample in loader] == [10, 20, 30]
    assert (dataset[0].label_map == 1).all()
    listed = Folders(archive, list_file="val.txt", classes=CLASSES)
    assert [sample.name for sample in (listed[0],)] == ["images/3"]
    with pytest.raises(InputError, match=r"no folder '.*set\..* › left', .* The root holds images/, labels/\."):
        Folders(archive, "left", classes=CLASSES)


def test_folders_tell_what_the_root_holds_beside_a_damaged_archive(tmp_path: Path) -> None:
    write_folder(tmp_path, {name.replace("images", "pictures"): content for name, content in pairs().items()})
    (tmp_path / "notes.tar").write_bytes(b"no tar")
    with pytest.raises(
        InputError,
        match=r"no folder '.*/images', .* The root holds labels/, pictures/, notes\.tar\. Archive '.*notes\.tar' is",
    ):
        Folders(tmp_path, classes=CLASSES)
    assert len(Folders(tmp_path, "pictures", classes=CLASSES)) == 3


def test_a_label_that_is_missing_in_an_archive(tmp_path: Path) -> None:
    files = pairs()
    del files["labels/2.png"]
    write_zip(tmp_path / "set.zip", files)
    with pytest.raises(
        InputError, match=r"1 image has no label in '.*set\.zip › labels': '.*set\.zip › images/2\.png'"
    ):
        Folders(tmp_path / "set.zip", classes=CLASSES)
    assert len(Folders(tmp_path / "set.zip", classes=CLASSES, unpaired="skip")) == 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="a superuser may read everything")
def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a/1.txt": b"one"})
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            FileTree(tmp_path).files()
    finally:
        (tmp_path / "a").chmod(0o700)
