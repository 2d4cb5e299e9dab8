"""What is remembered of a data set where the rows themselves are not kept."""

import zlib
from typing import Any

import numpy as np

from scoreode.data.dataset import Dataset, Part, extremes
from scoreode.data.stored import Stored, blocks


def described(data: Dataset) -> dict[str, Any]:
    """What a run remembers of its data; the fingerprint tells other rows of the same shape."""
    given, ranges = data.conditions, _range(data, data.train)
    return {
        "name": data.name,
        "path": data.path,
        "columns": list(data.columns),
        "n_train": len(data.train),
        "entropy": data.entropy,
        "bin_width": data.bin_width,
        "bin_edge": data.bin_edge,
        "bin_range": _bin_range(data, ranges),
        "image_shape": data.image_shape,
        "pixel_range": _pixel_range(data, ranges),
        "chosen_by": data.chosen_by,
        "conditions": [] if given is None else list(given.columns),
        "train_range": ranges,
        "conditions_range": None if given is None else _range(data, given.train),
        "fingerprint": _fingerprint(data),
    }


Range = tuple[list[float], list[float]]


def _range(data: Dataset, rows: Part) -> Range | None:
    """The least and the greatest value of every column, or of all pixels; None where there are no
    rows, or where they are drawn without end."""
    if len(rows) == 0 or data.sampler is not None:
        return None
    low, high = extremes(rows)
    if data.image_shape is not None:
        low, high = low.min(keepdims=True), high.max(keepdims=True)
    return low.tolist(), high.tolist()


def _bin_range(data: Dataset, ranges: Range | None) -> tuple[Any, Any] | None:
    """The least and the greatest of the training values on a grid, as its widths are given."""
    if data.bin_width is None or ranges is None:
        return None
    low, high = ranges
    return (low, high) if isinstance(data.bin_width, tuple) else (min(low), max(high))


def _pixel_range(data: Dataset, ranges: Range | None) -> tuple[float, float] | None:
    """The values of a black and of a white pixel: 0 and 255 of bytes, and else the ends of what is
    in training."""
    if data.image_shape is None or ranges is None:
        return None
    if data.train.dtype == np.uint8:
        return 0.0, 255.0
    (low,), (high,) = ranges
    return low, high


def _fingerprint(data: Dataset) -> int:
    """A checksum of the training rows, and of what they are conditioned on."""
    found = _checksum(data.train)
    return found if data.conditions is None else _checksum(data.conditions.train, found)


def _checksum(rows: np.ndarray | Stored, found: int = 0) -> int:
    """Of the rows in float32, a part at a time: large sets are stored in bytes."""
    for block in blocks(rows):
        with np.errstate(over="ignore"):
            single = np.ascontiguousarray(block, np.float32)
        found = zlib.crc32(single.data, found)
    return found
