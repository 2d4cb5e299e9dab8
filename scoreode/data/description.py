"""What is remembered of a data set where the rows themselves are not kept."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from scoreode.data import domains
from scoreode.data.columns import default_names
from scoreode.data.dataset import Conditions, Dataset
from scoreode.data.domains import Support
from scoreode.data.kinds import Category, Kinds, from_json, to_json, width
from scoreode.data.output import whole_columns
from scoreode.data.reading import Reading
from scoreode.data.roles import n_roles
from scoreode.data.stored import Stored, blocks
from scoreode.errors import InputError, listing

Range = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Description:
    """What a run remembers of its data.

    `path` is where the file or folder lay. `bin_width` and `bin_edge` are one number, or one a
    column. `train_range` and `conditions_range` are the least and the greatest value of every
    column, or of all pixels; `bin_range` those of the values on a grid; `pixel_range` the values of
    a black and of a white pixel. `fingerprint` tells other rows of the same shape. `conditions` are
    all columns that x is conditioned on; the first are the `categories`, whose law is modelled too.
    `kinds`, `layout`, `support`, `gaps` and `subsets` are as in `Dataset`.
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
    kinds: Kinds = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    layout: tuple[str, ...] = ()
    support: Support = field(default_factory=dict)
    gaps: tuple[str, ...] = ()
    subsets: bool = False

    @property
    def has_roles(self) -> bool:
        """Whether the network is told the role of every column; see `data.roles`."""
        return bool(self.gaps) or self.subsets

    @property
    def with_mass(self) -> tuple[str, ...]:
        """What has a law of exact masses: the categories, and whether values are missing."""
        return self.categories + self.gaps

    @property
    def gaps_of_all(self) -> tuple[str, ...]:
        """The columns that lacked values in training, categories among them."""
        kinds = ((name, self.kinds.get(name)) for name in self.categories)
        return (*self.gaps, *(n for n, k in kinds if isinstance(k, Category) and k.has_gaps))

    @property
    def reading(self) -> Reading:
        """How columns become numbers, as in training; values may be missing where some were."""
        return Reading(self.kinds, gaps=None if self.subsets else self.gaps_of_all)

    def is_gap(self, x: np.ndarray) -> np.ndarray:
        """Whether the values of `gaps` are missing in rows (n, d), bool (n, len(gaps))."""
        return np.isnan(x[:, [self.columns.index(name) for name in self.gaps]])

    @property
    def given(self) -> tuple[str, ...]:
        """The columns that rows have to come with: conditions whose law is not modelled."""
        return self.conditions[len(self.categories) :]

    @property
    def modelled(self) -> tuple[str, ...]:
        """The columns of which there is a density: numbers and categories as in the table."""
        return self.layout or self.columns

    @property
    def widths(self) -> float | tuple[float, ...] | None:
        """`bin_width` with one number for each of `modelled`, where it is one a column."""
        if not isinstance(self.bin_width, tuple):
            return self.bin_width
        by_name = dict(zip(self.columns, self.bin_width, strict=True))
        return tuple(by_name.get(name, 0.0) for name in self.modelled)

    @property
    def order(self) -> list[int]:
        """Where `modelled` and `given` are among the columns and the conditions."""
        both = (*self.columns, *self.conditions)
        return [both.index(name) for name in (*self.modelled, *self.given)]

    def apart(self, rows: np.ndarray, c: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows (n, d + m) of all that is `modelled`, with c (n, l) of what is `given` or None, as
        the numbers (n, d) and what they are conditioned on, (n, m + l)."""
        if not self.categories:
            return rows, c
        x, codes = (
            rows[:, [self.modelled.index(name) for name in names]]
            for names in (self.columns, self.categories)
        )
        return x, codes if c is None else np.concatenate([codes, c], axis=1)

    def together(
        self, x: np.ndarray, c: np.ndarray | None
    ) -> tuple[np.ndarray, tuple[str, ...], list[bool]]:
        """Rows of the table that was fitted, conditions last: numbers x beside c.

        **Returns:** the rows; the names of their columns; which of these hold whole numbers.
        """
        whole = whole_columns(self.bin_width, self.bin_edge, x.shape[1])
        if c is None:
            return x, self.columns, whole
        whole += [False] * c.shape[1]
        rows = np.concatenate([x, c], axis=1)[:, self.order]
        return rows, (*self.modelled, *self.given), [whole[i] for i in self.order]

    def check_columns(self, columns: Sequence[str], source: str) -> None:
        """Raises `InputError` unless these are the columns of training, in order."""
        trained = list(self.columns)
        if len(columns) != len(trained):
            raise InputError(
                f"{source}: {len(columns)} columns, but the run was trained on {len(trained)}"
                f" ({listing(trained)})"
            )
        nameless = list(default_names(len(trained)))
        if list(columns) != trained and nameless not in (list(columns), trained):
            raise InputError(
                f"{source}: has the columns {listing(columns)}, but the run was trained on"
                f" {listing(trained)}; name and order them so"
            )

    @property
    def n_conditions(self) -> int:
        """How many numbers x is conditioned on; see `Dataset.n_conditions`."""
        found = width(self.conditions, self.kinds)
        return found + (n_roles(len(self.columns)) if self.has_roles else 0)

    @property
    def n_indicators(self) -> int:
        """How many of these numbers are indicators of categories whose law is modelled."""
        return width(self.categories, self.kinds)

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
            kinds=data.kinds,
            categories=data.categories,
            layout=data.layout,
            support=data.support,
            gaps=data.gaps,
            subsets=data.subsets,
        )

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """What `to_json` wrote, also in runs that know less of their data.

        **Raises:** `TypeError` for what is no description.
        """
        known = {f.name for f in fields(cls)}
        found: dict[str, Any] = {k: _freeze(v) for k, v in document.items() if k in known}
        found["kinds"] = from_json(document.get("kinds", {}))
        found["support"] = domains.from_json(document.get("support", {}))
        return cls(**found)

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return found | {"kinds": to_json(self.kinds), "support": domains.to_json(self.support)}


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
