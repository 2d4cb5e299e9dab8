"""Image data sets from their published files (CIFAR-10, ImageNet 32 × 32, MNIST), and folders.

Two sets are called ImageNet 32 × 32: `imagenet32` is that of Chrabaszcz et al. (2017), and
`imagenet32-old` that of van den Oord et al. (2016). Their bits/dim are not comparable.

Images are uint8, (n, height, width, channels), until a batch is on the device. The MD5 of known
files is checked before they are used. So damage is reported, and a pickle is only read if its bytes
are the published ones.
"""

import gzip
import hashlib
import io
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from scoreode.data import downsampled
from scoreode.errors import InputError

Pixels = UInt8[np.ndarray, "_n h w c"]
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_PLAIN = {"P": "RGB", "PA": "RGBA", "1": "L", "CMYK": "RGB", "YCbCr": "RGB"}  # Pillow's modes


@dataclass(frozen=True)
class Images:
    """Training and test images."""

    train: Pixels
    test: Pixels


_CIFAR_BINARY = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
_CIFAR_PYTHON = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_IDX = {  # MD5 of the uncompressed content, which is published with different compressions
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    },
}
_CIFAR_SITE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_IMAGENET_SITE = "https://image-net.org/download-images (Downsampled, 32x32, npz)"


def read(name: str, data_dir: str | os.PathLike[str] | None = None) -> Images:
    """The images of a named set, in `data_dir` or else in the directory SCOREODE_DATA.

    **Raises:** `InputError` for an unknown name, for missing files (with their download page), and
    for damaged files.
    """
    if name not in SETS:
        raise InputError(f"unknown set of images {name!r}; choose from {', '.join(SETS)}")
    directory = data_dir if data_dir is not None else os.environ.get("SCOREODE_DATA")
    if directory is None:
        raise InputError(f"{name}: say where it is, with --data-dir or SCOREODE_DATA")
    root = Path(directory)
    if not root.is_dir():
        raise InputError(f"{root}: no such directory; it should contain {name}")
    return SETS[name](root)


def cifar10(root: Path) -> Images:
    """CIFAR-10's binary or Python version: 50,000 and 10,000 images of 32 × 32 × 3."""
    binary, python = root / "cifar-10-batches-bin", root / "cifar-10-batches-py"
    if binary.is_dir():
        parts = [_cifar_binary(binary / name, md5) for name, md5 in _CIFAR_BINARY.items()]
    elif python.is_dir():
        parts = [_cifar_python(python / name, md5) for name, md5 in _CIFAR_PYTHON.items()]
    else:
        raise _missing(root, f"{binary.name}/ or {python.name}/", _CIFAR_SITE)
    rows = [_channels_last(part, 32) for part in parts]
    return Images(np.concatenate(rows[:-1]), rows[-1])


def _cifar_binary(path: Path, md5: str) -> np.ndarray:
    """The images as rows of 3072 values; in the file a label precedes each."""
    rows = np.frombuffer(_checked_bytes(path, md5, _CIFAR_SITE), np.uint8)
    return rows.reshape(-1, 3073)[:, 1:]


def _cifar_python(path: Path, md5: str) -> np.ndarray:
    content = io.BytesIO(_checked_bytes(path, md5, _CIFAR_SITE))
    return np.asarray(_ArrayUnpickler(content, encoding="bytes").load()[b"data"], np.uint8)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles only NumPy arrays in plain containers."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("numpy") and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")


def imagenet32(root: Path) -> Images:
    """ImageNet 32 × 32 of Chrabaszcz et al. (2017): npz, train_data_batch_1 … 10 and val_data."""
    folder = next((f for f in (root / "imagenet32", root) if (f / "val_data.npz").exists()), None)
    if folder is None:
        raise _missing(root, "imagenet32/train_data_batch_1.npz … and val_data.npz", _IMAGENET_SITE)
    names = [f"train_data_batch_{i}.npz" for i in range(1, 11)]
    train = np.concatenate([_channels_last(_npz(folder / name), 32) for name in names])
    return Images(train, _channels_last(_npz(folder / "val_data.npz"), 32))


def _npz(path: Path) -> np.ndarray:
    if not path.exists():
        raise _missing(path.parent, path.name, _IMAGENET_SITE)
    try:
        with open(path, "rb") as file:
            data = np.load(file, allow_pickle=False)["data"]
    except Exception as error:  # damage causes many kinds of errors in zip, zlib and NumPy
        raise InputError(f"{path}: cannot be read: {error}; download it again") from error
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise InputError(f"{path}: holds {data.dtype} {data.shape}, not rows of 3072 uint8")
    return data


def idx(root: Path, name: str) -> Images:
    """MNIST's and Fashion-MNIST's idx files, compressed or not: 28 × 28 × 1."""
    folder = next((f for f in (root / name, root / name / "raw") if f.is_dir()), None)
    if folder is None:
        raise _missing(root, f"{name}/train-images-idx3-ubyte.gz", _idx_site(name))
    return Images(*(_idx(folder, stem, md5, _idx_site(name)) for stem, md5 in _IDX[name].items()))


def _idx(folder: Path, stem: str, md5: str, site: str) -> Pixels:
    plain, packed = folder / stem, folder / f"{stem}.gz"
    file = plain if plain.exists() else packed
    content = _content(file, site)
    if file == packed:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{file}: damaged: {error}; download it again: {site}") from error
    magic, n, h, w = struct.unpack(">IIII", content[:16]) if len(content) >= 16 else (0, 0, 0, 0)
    if magic != 2051 or len(content) != 16 + n * h * w:
        raise InputError(f"{file}: not a complete idx file of images; download it again: {site}")
    _check_md5(content, md5, file, site)
    return np.frombuffer(content, np.uint8, offset=16).reshape(n, h, w, 1)


def _idx_site(name: str) -> str:
    sites = {"fashion-mnist": "https://github.com/zalandoresearch/fashion-mnist"}
    return sites.get(name, "https://ossci-datasets.s3.amazonaws.com/mnist/")


def folder(path: str | os.PathLike[str]) -> Pixels:
    """All images of a folder, in the order of their names. They must have one size and one kind.

    **Raises:** `InputError` with the first file that differs from the others or is damaged.
    """
    images = ((file.name, _open(file)) for file in files(path))
    return stack(f"{path}{os.sep}", images)


def files(path: str | os.PathLike[str]) -> list[Path]:
    """The image files of a folder, sorted. **Raises:** `InputError` if there are none."""
    found = sorted(f for f in Path(path).iterdir() if f.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{path}: contains no images ({', '.join(SUFFIXES)})")
    return found


def array(path: str | os.PathLike[str]) -> Pixels | None:
    """The images in a .npy of uint8 (n, h, w, c), left on the disk; None for any other file."""
    if Path(path).suffix != ".npy" or not os.path.isfile(path):  # reading a pipe would block
        return None
    try:
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # a damaged file: the error is reported when it is read as a table
        return None
    if not isinstance(pixels, np.ndarray):  # an archive under another name
        pixels.close()
        return None
    return pixels if pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.size else None


def _open(file: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            image.load()
            return image
    except (OSError, UnidentifiedImageError) as error:  # a truncated file is an OSError
        raise InputError(f"{file}: cannot be read: {error}; remove or replace it") from error


def stack(where: str, images: Iterable[tuple[str, Any]]) -> Pixels:
    """Pillow images as one array.

    **Arguments:** `where`, the prefix of names in messages; `images`, pairs of a name and an image.

    **Raises:** `InputError` with the first image that differs from the others.
    """
    first, found = "", list[np.ndarray]()
    for name, image in images:
        first = first or name
        plain = _PLAIN.get(image.mode)
        pixels = np.asarray(image.convert(plain) if plain else image)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.dtype != np.uint8:
            raise InputError(
                f"{where}{name}: has {pixels.dtype} pixels; convert it to 8 bits per channel"
            )
        if found and pixels.shape != found[0].shape:
            raise InputError(
                f"{where}{name}: {_size_and_kind(pixels)}, but {first} is"
                f" {_size_and_kind(found[0])}; convert all images to one size and kind"
            )
        found.append(pixels)
    return np.stack(found)


def _size_and_kind(pixels: np.ndarray) -> str:
    kinds = {1: "grey", 2: "grey with transparency", 3: "colour", 4: "colour with transparency"}
    height, width, channels = pixels.shape
    return f"{width} × {height}, {kinds.get(channels, f'{channels} channels')}"


def _channels_last(rows: np.ndarray, side: int) -> Pixels:
    """Images from rows in which the channels follow one another."""
    return np.ascontiguousarray(rows.reshape(-1, 3, side, side).transpose(0, 2, 3, 1))


def _checked_bytes(path: Path, md5: str, site: str) -> bytes:
    """The content of a file. **Raises:** `InputError` unless it is the published content."""
    content = _content(path, site)
    _check_md5(content, md5, path, site)
    return content


def _content(path: Path, site: str) -> bytes:
    if not path.exists():
        raise _missing(path.parent, path.name, site)
    return path.read_bytes()


def _check_md5(content: bytes, md5: str, path: Path, site: str) -> None:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise InputError(
            f"{path}: damaged: its MD5 is {found}, not {md5}; download it again: {site}"
        )


def _missing(where: Path, what: str, site: str) -> InputError:
    return InputError(f"{where}: has no {what}; download it from {site}")


SETS: dict[str, Callable[[Path], Images]] = {
    "cifar10": cifar10,
    "imagenet32": imagenet32,
    downsampled.NAME: lambda root: Images(*downsampled.read(root)),
    "mnist": lambda root: idx(root, "mnist"),
    "fashion-mnist": lambda root: idx(root, "fashion-mnist"),
}
