"""The ImageNet 32 × 32 of van den Oord et al. (2016), published with PixelRNN as PNG files.

The paper's bits/dim for ImageNet 32 × 32 are for this set. The set of Chrabaszcz et al. (2017),
which image-net.org offers now, differs: its images are anti-aliased, and the same model reaches
about 0.3 bits/dim less on it.

Each of the published parts, `train_32x32` and `valid_32x32`, may be a .tar, a .zip or a folder.
Archives are read in place, one PNG file at a time. Images are sorted by file name, so that a seed
gives the same split for each kind of archive.
"""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from scoreode import progress
from scoreode.errors import InputError

NAME = "imagenet32-old"
PARTS = {"train_32x32": 1_281_149, "valid_32x32": 49_999}  # published numbers of images
_SITE = "https://academictorrents.com/details/bf62f5051ef878b9c357e6221e879629a9b4b172"
_SIDE = 32
_MAX_BYTES = 2**16  # read of one PNG file; its pixels take 3072
_MODES = ("RGB", "L", "P")  # Pillow's modes with 8 bits a channel and no transparency

Pixels = UInt8[np.ndarray, "_n 32 32 3"]
Files = Iterator[tuple[str, bytes]]  # names and contents


def read(root: Path) -> tuple[Pixels, Pixels]:
    """The training and validation images below `root`.

    **Raises:** `InputError` for a part that is missing (with the place to get it), damaged, or
    different from the published one in the number or the size of its images.
    """
    paths = [_find(root, part) for part in PARTS]
    progress.note(f"{NAME}: decoding {sum(PARTS.values()):,} PNG files; this takes minutes")
    train, valid = map(_decode, paths, PARTS.values())
    return train, valid


def _find(root: Path, part: str) -> Path:
    """The folder or archive of a part."""
    for base in (root / NAME, root):
        if (base / part).is_dir():
            return base / part
        for suffix in _READERS:
            if (archive := base / f"{part}{suffix}").is_file():
                return archive
    raise InputError(
        f"{root}: has no {NAME}/{part}.tar, .zip or folder; download it from {_SITE}"
        " (image-net.org offers another set, imagenet32, on which bits/dim are about 0.3 lower)"
    )


def _decode(path: Path, n: int) -> Pixels:
    """All n images of a part."""
    pixels = np.empty((n, _SIDE, _SIDE, 3), np.uint8)
    try:
        for i, (name, content) in enumerate(_READERS.get(path.suffix, _read_folder)(path, n)):
            pixels[i] = _decode_png(content, f"{path}{os.sep}{name}")
    except (InputError, ImportError):  # ImportError where Pillow is not installed
        raise
    except Exception as error:  # damaged archives raise many kinds of errors
        raise InputError(f"{path}: cannot be read: {error}; {_remedy(path)}") from error
    return pixels


def _decode_png(content: bytes, where: str) -> UInt8[np.ndarray, "32 32 3"]:
    """The pixels of one PNG file; grey becomes three equal colours."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            (width, height), mode = image.size, image.mode
            image.verify()  # the checksums, not all of which decoding looks at
        # Only the header has been read: a file that claims a huge size is not decoded.
        if (width, height) == (_SIDE, _SIDE) and mode in _MODES:
            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                return np.asarray(image.convert("RGB"))
    except Exception as error:  # damaged files raise many kinds of errors
        raise InputError(f"{where}: cannot be read: {error}; download it again: {_SITE}") from error
    raise InputError(
        f"{where}: has {width} × {height} pixels of mode {mode}, not {_SIDE} × {_SIDE} RGB;"
        f" download it again: {_SITE}"
    )


def _read_folder(path: Path, n: int) -> Files:
    nested = path / path.name  # where some programs unpack an archive to
    folder = nested if nested.is_dir() else path
    for name in _sorted_pngs(os.listdir(folder), path, n):
        with open(folder / name, "rb") as file:
            yield name, file.read(_MAX_BYTES)


def _read_tar(path: Path, n: int) -> Files:
    places: dict[str, tuple[int, int]] = {}
    with tarfile.open(path, "r:") as archive:
        while (member := archive.next()) is not None:
            if member.isreg():
                places[member.name] = member.offset_data, member.size
            # It keeps every member: more than a million of them would take 0.6 GB.
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
    with open(path, "rb") as file:
        for name in _sorted_pngs(places, path, n):
            offset, size = places[name]
            file.seek(offset)
            yield name, file.read(min(size, _MAX_BYTES))


def _read_zip(path: Path, n: int) -> Files:
    with zipfile.ZipFile(path) as archive:
        for name in _sorted_pngs(archive.namelist(), path, n):
            with archive.open(name) as file:
                yield name, file.read(_MAX_BYTES)


_READERS: dict[str, Callable[[Path, int], Files]] = {".tar": _read_tar, ".zip": _read_zip}


def _sorted_pngs(names: Iterable[str], path: Path, n: int) -> list[str]:
    """The names of PNG files, sorted. **Raises:** `InputError` unless there are n."""
    # macOS adds a file "._name" with metadata for each file of an archive.
    real = (name for name in names if not os.path.basename(name).startswith("._"))
    found = sorted(name for name in real if name.lower().endswith(".png"))
    if len(found) != n:
        raise InputError(f"{path}: has {len(found):,} PNG files, not {n:,}; {_remedy(path)}")
    return found


def _remedy(path: Path) -> str:
    return f"{'unpack or download' if path.is_dir() else 'download'} it again: {_SITE}"
