"""ImageNet 32 × 32 of van den Oord et al.: PNG files in folders, .tar and .zip; damage is named."""

import io
import struct
import sys
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from scoreode.data import downsampled, images, sources
from scoreode.errors import InputError

NAME = "imagenet32-old"
KINDS = ("folder", "nested", "tar", "zip")
RNG = np.random.default_rng(0)


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png")
    return out.getvalue()


def files_of(pixels):
    """By name, and not in the order of the names."""
    return {f"{i:05}.png": png(image) for i, image in reversed(list(enumerate(pixels)))}


def packed(base, part, files, kind):
    """Writes one part as it may be found; the path of it."""
    base.mkdir(parents=True, exist_ok=True)
    if kind in ("folder", "nested"):
        folder = base / part / part if kind == "nested" else base / part
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return folder
    path = base / f"{part}.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(f"{part}/{name}", content)
        return path
    with tarfile.open(path, "w") as archive:
        archive.addfile(_folder(part))
        for name, content in files.items():
            member = tarfile.TarInfo(f"{part}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _folder(name):
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE
    return member


@pytest.fixture
def parts(monkeypatch):
    """A small set, whose numbers of images are taken for the published ones."""
    found = {"train_32x32": 6, "valid_32x32": 3}
    for part, n in found.items():
        monkeypatch.setitem(downsampled.PARTS, part, n)
        found[part] = RNG.integers(0, 256, (n, 32, 32, 3), np.uint8)
    return found


def written(base, parts, kind):
    return [packed(base, part, files_of(x), kind) for part, x in parts.items()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("below", [NAME, ""])
def test_every_kind_of_part_gives_the_same_images(tmp_path, parts, kind, below):
    written(tmp_path / below, parts, kind)
    found = images.read(NAME, tmp_path)
    np.testing.assert_array_equal(found.train, parts["train_32x32"])
    np.testing.assert_array_equal(found.test, parts["valid_32x32"])


def test_it_is_a_set_by_name_with_a_grid(tmp_path, parts):
    written(tmp_path, parts, "tar")
    data = sources.load_data(NAME, 0, 0.0, tmp_path)
    assert (data.name, data.image_shape, data.bin_width) == (NAME, (32, 32, 3), 1.0)
    np.testing.assert_array_equal(data.test, parts["valid_32x32"].reshape(3, -1))


def test_greys_are_three_equal_colours(tmp_path, parts):
    written(tmp_path, parts, "folder")
    grey = parts["train_32x32"][0, ..., 0]
    (tmp_path / "train_32x32" / "00000.png").write_bytes(png(grey))
    found = images.read(NAME, tmp_path).train[0]
    np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, axis=-1))


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_no_images_of_the_set_are_left_out(tmp_path, parts, kind):
    train = files_of(parts["train_32x32"]) | {"._00001.png": b"of macOS", "readme.txt": b"text"}
    packed(tmp_path, "train_32x32", train, kind)
    packed(tmp_path, "valid_32x32", files_of(parts["valid_32x32"]), kind)
    np.testing.assert_array_equal(images.read(NAME, tmp_path).train, parts["train_32x32"])


def refused(root):
    with pytest.raises(InputError) as caught:
        images.read(NAME, root)
    message = str(caught.value)
    assert "academictorrents.com" in message, "where to get it"
    return message


@pytest.mark.parametrize("there", [None, "train_32x32"])
def test_a_part_that_is_missing_is_named_and_the_other_set_too(tmp_path, parts, there):
    if there:
        packed(tmp_path / NAME, there, files_of(parts[there]), "tar")
    message = refused(tmp_path)
    missing = "valid_32x32" if there else "train_32x32"
    assert f"{tmp_path}: has no {NAME}/{missing}.tar" in message
    assert "another set, imagenet32" in message


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_with_fewer_images_is_not_the_published_one(tmp_path, parts, kind):
    written(tmp_path, parts | {"train_32x32": parts["train_32x32"][1:]}, kind)
    assert "train_32x32" in (message := refused(tmp_path))
    assert "has 5 PNG files, not 6" in message
    assert ("unpack" in message) == (kind in ("folder", "nested"))


def test_an_archive_that_is_cut(tmp_path, parts):
    path, _ = written(tmp_path, parts, "tar")
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    # Between two files, where the end is like that of a whole archive, and within one.
    for end, said in ((last.offset, "has 5 PNG files, not 6"), (last.offset_data + 100, "cannot")):
        path.write_bytes(whole[:end])
        assert said in refused(tmp_path)


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100])
def test_what_is_no_archive(tmp_path, parts, kind, content):
    path, _ = written(tmp_path, parts, kind)
    path.write_bytes(content)
    assert f"{path}: cannot be read" in refused(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_is_found(tmp_path, parts, kind):
    """Wherever it is in a file: PNG has a checksum for each of its parts."""
    path, _ = written(tmp_path, parts, kind)
    path = path / "00002.png" if path.is_dir() else path
    whole = path.read_bytes()
    start = whole.index(files_of(parts["train_32x32"])["00002.png"])
    for offset in (0, 17, 40, 1500, -20, -14):
        changed = bytearray(whole)
        at = start + offset if offset >= 0 else start + len(png(parts["train_32x32"][2])) + offset
        changed[at] ^= 4
        path.write_bytes(changed)
        assert "00002.png" in (message := refused(tmp_path)), offset
        assert "cannot be read" in message or "pixels of mode" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (png(np.zeros((64, 64, 3), np.uint8)), "has 64 × 64 pixels of mode RGB, not 32 × 32 RGB"),
        (png(np.zeros((32, 32, 4), np.uint8)), "has 32 × 32 pixels of mode RGBA"),
        (b"\x80\x04cposix\nmkdir\n", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_no_image_of_the_set_is_named(tmp_path, parts, kind, content, said):
    train = files_of(parts["train_32x32"]) | {"00003.png": content}
    packed(tmp_path, "train_32x32", train, kind)
    packed(tmp_path, "valid_32x32", files_of(parts["valid_32x32"]), kind)
    message = refused(tmp_path)
    assert "00003.png" in message
    assert said in message


def peak(call):
    """What is in memory at most, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_where_pillow_is_not_installed_the_set_is_not_blamed(tmp_path, parts, monkeypatch):
    written(tmp_path, parts, "zip")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError):
        images.read(NAME, tmp_path)


def chunk(kind, content):
    """A part of a PNG file: its length, kind, content and checksum."""
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def test_a_file_that_claims_a_huge_size_is_not_decoded(tmp_path, parts):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8000, 8000, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    huge = b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")
    train = files_of(parts["train_32x32"]) | {"00000.png": huge}
    packed(tmp_path, "train_32x32", train, "zip")
    packed(tmp_path, "valid_32x32", files_of(parts["valid_32x32"]), "zip")
    assert "has 8000 × 8000 pixels" in refused(tmp_path)
    assert peak(lambda: refused(tmp_path)) < 2**20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_pixels_and_no_files_are_in_memory(tmp_path, monkeypatch, kind):
    n = 1500
    pixels = RNG.integers(0, 256, (n, 32, 32, 3), np.uint8)
    monkeypatch.setitem(downsampled.PARTS, "train_32x32", n)
    monkeypatch.setitem(downsampled.PARTS, "valid_32x32", 1)
    written(tmp_path, {"train_32x32": pixels, "valid_32x32": pixels[:1]}, kind)
    images.read(NAME, tmp_path)  # what is imported is not counted
    # The files take as much as the pixels, which are noise.
    assert peak(lambda: images.read(NAME, tmp_path)) < 1.5 * pixels.nbytes
