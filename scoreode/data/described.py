"""What is remembered of a data set where the rows themselves are not kept."""

import zlib
from typing import Any

import numpy as np

from scoreode.data.dataset import Dataset, extremes
from scoreode.data.stored import Stored, blocks


def described(data: Dataset) -> dict[str, Any]:
    """What a run remembers of its data; the fingerprint tells other rows of the same shape."""
    return {
        "name": data.name,
        "path": data.path,
        "columns": list(data.columns),
        "n_train": len(data.train),
        "entropy": data.entropy,
        "bin_width": data.bin_width,
        "bin_edge": data.bin_edge,
        "bin_range": _range(data),
        "image_shape": data.image_shape,
        "conditions": [] if data.conditions is None else list(data.conditions.columns),
        "fingerprint": _fingerprint(data),
    }


def _range(data: Dataset) -> tuple[Any, Any] | None:
    """The least and the greatest of the training values on a grid, as its widths are given."""
    if data.bin_width is None or len(data.train) == 0:
        return None
    low, high = extremes(data.train)
    if isinstance(data.bin_width, tuple):
        return low.tolist(), high.tolist()
    return low.min().tolist(), high.max().tolist()


def _fingerprint(data: Dataset) -> int:
    """A checksum of the training rows, and of what they are conditioned on."""
    found = _checksum(data.train)
    return found if data.conditions is None else _checksum(data.conditions.train, found)


def _checksum(rows: np.ndarray | Stored, found: int = 0) -> int:
    """Of the rows in float32, a part at a time: large sets are stored in bytes."""
    for block in blocks(rows):
        found = zlib.crc32(np.ascontiguousarray(block, np.float32).data, found)
    return found
