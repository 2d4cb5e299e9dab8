"""Sets of images: the published formats to the byte, and what is said of files that are not."""

import gzip
import hashlib
import os
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from scoreode.data import images
from scoreode.errors import InputError

RNG = np.random.default_rng(0)


def pixels(n, side, channels):
    return RNG.integers(0, 256, (n, side, side, channels), np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def rows(x):
    """Whole channels, one after another."""
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


@pytest.fixture
def cifar(tmp_path, monkeypatch, request):
    """A small CIFAR-10 in either version, and its images."""
    kind = request.param
    folder = tmp_path / f"cifar-10-batches-{kind}"
    folder.mkdir()
    parts = [pixels(7, 32, 3) for _ in range(6)]
    known = getattr(images, "_CIFAR_BINARY" if kind == "bin" else "_CIFAR_PYTHON")
    for name, part in zip(known, parts, strict=True):
        labels = RNG.integers(0, 10, len(part), np.uint8)
        if kind == "bin":
            content = np.concatenate([labels[:, None], rows(part)], 1).tobytes()
        else:
            batch = {b"data": rows(part), b"labels": labels.tolist(), b"batch_label": b"one"}
            content = pickle.dumps(batch, protocol=2)
        (folder / name).write_bytes(content)
        monkeypatch.setitem(known, name, md5(folder / name))
    return folder, parts


both = pytest.mark.parametrize("cifar", ["bin", "py"], indirect=True)


@both
def test_cifar10(cifar):
    folder, parts = cifar
    found = images.read("cifar10", folder.parent)
    np.testing.assert_array_equal(found.train, np.concatenate(parts[:5]))
    np.testing.assert_array_equal(found.test, parts[5])


@both
def test_a_damaged_batch_is_named_with_the_place_to_get_it(cifar):
    folder, _ = cifar
    file = sorted(folder.iterdir())[2]
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"{file.name}.*damaged.*MD5.*kriz/cifar"):
        images.read("cifar10", folder.parent)
    file.write_bytes(content[:-5])
    with pytest.raises(InputError, match=f"{file.name}.*damaged"):
        images.read("cifar10", folder.parent)
    file.unlink()
    with pytest.raises(InputError, match=f"has no {file.name}"):
        images.read("cifar10", folder.parent)


@pytest.mark.parametrize("cifar", ["py"], indirect=True)
def test_a_pickle_of_anything_else_is_not_run(cifar, monkeypatch, tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    folder, _ = cifar
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": Harmful()}))
    with pytest.raises(InputError, match="damaged"):  # its bytes are not the published ones
        images.read("cifar10", folder.parent)
    monkeypatch.setitem(images._CIFAR_PYTHON, "data_batch_1", md5(folder / "data_batch_1"))
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        images.read("cifar10", folder.parent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("compressed", [False, True])
def test_idx(tmp_path, monkeypatch, name, compressed):
    folder, parts = tmp_path / name, {"train": pixels(9, 28, 1), "t10k": pixels(4, 28, 1)}
    folder.mkdir()
    for part, x in parts.items():
        file = folder / f"{part}-images-idx3-ubyte{'.gz' if compressed else ''}"
        content = struct.pack(">IIII", 2051, len(x), 28, 28) + x.tobytes()
        file.write_bytes(gzip.compress(content) if compressed else content)
        known = hashlib.md5(content).hexdigest()
        monkeypatch.setitem(images._IDX[name], f"{part}-images-idx3-ubyte", known)
    found = images.read(name, tmp_path)
    np.testing.assert_array_equal(found.train, parts["train"])
    np.testing.assert_array_equal(found.test, parts["t10k"])


def test_idx_files_are_what_they_hold_however_packed(tmp_path, monkeypatch):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    content = struct.pack(">IIII", 2051, 3, 28, 28) + pixels(3, 28, 1).tobytes()
    for part in ("train", "t10k"):
        known = hashlib.md5(content).hexdigest()
        monkeypatch.setitem(images._IDX["fashion-mnist"], f"{part}-images-idx3-ubyte", known)
        packed = gzip.compress(content, compresslevel=1, mtime=7)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(packed)
    assert len(images.read("fashion-mnist", tmp_path).train) == 3
    file = folder / "train-images-idx3-ubyte.gz"
    for spoilt in (packed[:-9], packed[:50] + b"?" + packed[51:], content, gzip.compress(b"no")):
        file.write_bytes(spoilt)
        with pytest.raises(InputError, match=rf"{file.name}: .*download it again: https"):
            images.read("fashion-mnist", tmp_path)
    other = bytearray(content)
    other[-1] ^= 1
    file.write_bytes(gzip.compress(bytes(other)))
    with pytest.raises(InputError, match=rf"{file.name}: damaged: its MD5"):
        images.read("fashion-mnist", tmp_path)


def test_an_idx_file_that_is_cut(tmp_path):
    (tmp_path / "fashion-mnist").mkdir()
    file = tmp_path / "fashion-mnist" / "train-images-idx3-ubyte"
    file.write_bytes(struct.pack(">IIII", 2051, 5, 28, 28) + b"\x00" * 100)
    with pytest.raises(InputError, match="not a complete idx file"):
        images.read("fashion-mnist", tmp_path)


def test_imagenet32(tmp_path):
    folder = tmp_path / "imagenet32"
    folder.mkdir()
    names = [f"train_data_batch_{i}" for i in range(1, 11)] + ["val_data"]
    parts = [pixels(3, 32, 3) for _ in names]
    for name, x in zip(names, parts, strict=True):
        np.savez(folder / name, data=rows(x), labels=np.arange(3))
    found = images.read("imagenet32", tmp_path)
    np.testing.assert_array_equal(found.train, np.concatenate(parts[:10]))
    np.testing.assert_array_equal(found.test, parts[10])

    np.savez(folder / "train_data_batch_4", data=rows(parts[3]).astype(np.float32))
    with pytest.raises(InputError, match=r"train_data_batch_4.*float32.*3072 uint8"):
        images.read("imagenet32", tmp_path)
    (folder / "train_data_batch_4.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"train_data_batch_4.*cannot be read"):
        images.read("imagenet32", tmp_path)
    (folder / "train_data_batch_4.npz").unlink()
    with pytest.raises(InputError, match=r"has no train_data_batch_4.*image-net"):
        images.read("imagenet32", tmp_path)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_folder(tmp_path, channels):
    x = pixels(3, 8, channels)
    for i, image in enumerate(x):
        Image.fromarray(image.squeeze()).save(tmp_path / f"{i}.png")
    (tmp_path / "readme.txt").write_text("not an image")
    np.testing.assert_array_equal(images.folder(tmp_path), x)


def test_a_palette_is_not_taken_for_greys(tmp_path):
    x = np.zeros((8, 8, 3), np.uint8)
    x[:4] = [200, 10, 30]
    Image.fromarray(x).convert("P").save(tmp_path / "a.png")
    assert images.folder(tmp_path).shape == (1, 8, 8, 3)


def test_folders_that_hold_what_cannot_be_stacked(tmp_path):
    with pytest.raises(InputError, match="contains no images"):
        images.folder(tmp_path)
    Image.fromarray(pixels(1, 8, 3)[0]).save(tmp_path / "a.png")
    Image.fromarray(pixels(1, 8, 1)[0, ..., 0]).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png: 8 × 8, grey, but a\.png is 8 × 8, colour"):
        images.folder(tmp_path)
    Image.fromarray(pixels(1, 9, 3)[0]).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png: 9 × 9, colour, but a\.png is 8 × 8"):
        images.folder(tmp_path)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"b\.png: cannot be read"):
        images.folder(tmp_path)


def test_names_and_places(tmp_path, monkeypatch):
    monkeypatch.delenv("SCOREODE_DATA", raising=False)
    with pytest.raises(InputError, match="unknown set of images 'cifar'"):
        images.read("cifar", tmp_path)
    with pytest.raises(InputError, match="SCOREODE_DATA"):
        images.read("mnist")
    with pytest.raises(InputError, match="no such directory"):
        images.read("mnist", tmp_path / "none")
    monkeypatch.setenv("SCOREODE_DATA", str(tmp_path))
    for name in images.SETS:
        with pytest.raises(InputError, match=r"has no .* download it from https://"):
            images.read(name)


@pytest.mark.parametrize(("name", "shape"), [("cifar10", (32, 32, 3)), ("mnist", (28, 28, 1))])
def test_the_published_files(name, shape):
    try:
        found = images.read(name)
    except InputError as error:
        pytest.skip(str(error))
    assert found.train.shape == ({"cifar10": 50_000, "mnist": 60_000}[name], *shape)
    assert found.test.shape == (10_000, *shape)
    # Published means of all training pixels.
    mean = {"cifar10": (125.307, 122.950, 113.865), "mnist": (33.318,)}[name]
    np.testing.assert_allclose(found.train.mean((0, 1, 2)), mean, atol=1e-2)
