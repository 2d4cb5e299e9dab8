"""Writes images as PNGs, pixel by pixel."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Real, UInt8

from scoreode._files import disk, replace_whole
from scoreode.errors import InputError

Pixels = UInt8[np.ndarray, "n h w c"]
_CHANNELS = (1, 2, 3, 4)  # grey, grey with alpha, RGB, RGB with alpha


def of_rows(
    rows: Real[np.ndarray, "n d"], shape: tuple[int, ...], ends: tuple[float, float] | None
) -> Pixels:
    """Rows as uint8 images: round(255 (x − black) / (white − black)), clipped to [0, 255].

    **Arguments:** `rows`; `shape`, (h, w) or (h, w, c); `ends`, black and white (None: the smallest
    and the largest value of these rows).
    """
    low, high = ends or (float(np.min(rows)), float(np.max(rows)))
    light = (np.asarray(rows, np.float64) - low) * (255 / ((high - low) or 1.0))
    height, width, channels = (*shape, 1)[:3]
    return np.rint(np.clip(light, 0, 255)).astype(np.uint8).reshape(-1, height, width, channels)


def check(out: Path, shape: tuple[int, ...]) -> None:
    """Checks, before any work is done, that PNGs of this shape can be written to `out`.

    **Raises:** `InputError` if PNG has no such number of channels, Pillow is missing, or `out` is a
    folder that is not empty.
    """
    channels = (*shape, 1)[2]
    if channels not in _CHANNELS:
        raise InputError(f"{out}: a PNG cannot have {channels} channels; use .npy")
    try:
        import PIL  # noqa: F401
    except ModuleNotFoundError as missing:
        raise InputError("Pillow is not installed: pip install 'scoreode[images]'") from missing
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: the folder is not empty; give a new one")


def write(image: UInt8[np.ndarray, "h w c"], path: Path) -> None:
    """Writes an image as a PNG. **Raises:** `FailureError` if the disk refuses."""
    with replace_whole(path) as partial:
        _picture(image).save(partial)


def write_folder(images: Pixels, folder: Path) -> None:
    """Writes a PNG for every image, named by its number from 1 with leading zeros: 001.png.

    Either all images are written, or none.

    **Raises:** `FailureError` if the disk refuses.
    """
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    digits = len(str(len(images)))
    try:
        with disk(folder):
            partial.mkdir()
            for number, image in enumerate(images, 1):
                _picture(image).save(partial / f"{number:0{digits}}.png")
            os.replace(partial, folder)  # replaces only an empty folder
    finally:
        with suppress(OSError):
            shutil.rmtree(partial)


def _picture(image: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
