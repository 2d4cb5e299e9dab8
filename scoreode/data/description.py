"""What is remembered of a data set where the rows themselves are not kept."""

import zlib
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from scoreode.data.dataset import Conditions, Dataset
from scoreode.data.stored import Stored, blocks

Range = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Description:
    """What a run remembers of its data.

    `path` is where the file or folder lay. `bin_width` and `bin_edge` are one number, or one a
    column. `train_range` and `conditions_range` are the least and the greatest value of every
    column, or of all pixels; `bin_range` those of the values on a grid; `pixel_range` the values of
    a black and of a white pixel. `fingerprint` tells other rows of the same shape.
    """

    name: str
    columns: tuple[str, ...]
    n_train: int
    entropy: float | None
    bin_width: float | tuple[float, ...] | None
    image_shape: tuple[int, ...] | None
    fingerprint: int
    path: str | None = None
    bin_edge: float | tuple[float, ...] = 0.0
    bin_range: tuple[Any, Any] | None = None
    pixel_range: tuple[float, float] | None = None
    conditions: tuple[str, ...] = ()
    train_range: Range | None = None
    conditions_range: Range | None = None

    @classmethod
    def of(cls, data: Dataset) -> Self:
        """The description of a data set.

        **Cost:** two passes over the training rows, or one if their extremes are known.
        """
        given, ranges = data.conditions, _range(data, data)
        return cls(
            name=data.name,
            columns=tuple(data.columns),
            n_train=len(data.train),
            entropy=data.entropy,
            bin_width=data.bin_width,
            image_shape=data.image_shape,
            fingerprint=_fingerprint(data),
            path=data.path,
            bin_edge=data.bin_edge,
            bin_range=_bin_range(data, ranges),
            pixel_range=_pixel_range(data, ranges),
            conditions=() if given is None else tuple(given.columns),
            train_range=ranges,
            conditions_range=None if given is None else _range(data, given),
        )

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """What `to_json` wrote, also in runs that know less of their data.

        **Raises:** `TypeError` for what is no description.
        """
        known = {field.name for field in fields(cls)}
        return cls(**{name: _freeze(value) for name, value in document.items() if name in known})

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _freeze(value: Any) -> Any:
    """Tuples in place of JSON's lists."""
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


def _range(data: Dataset, known: Dataset | Conditions) -> Range | None:
    """The least and the greatest value of every column, or of all pixels; None where there are no
    rows, or where they are drawn without end."""
    if len(known.train) == 0 or data.sampler is not None:
        return None
    low, high = known.extremes
    if data.image_shape is not None:
        low, high = low.min(keepdims=True), high.max(keepdims=True)
    return tuple(low.tolist()), tuple(high.tolist())


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
