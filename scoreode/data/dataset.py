"""A data set: rows in three parts, or an endless sampler, and what is known of their truth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import jax.random as jr
import numpy as np

from scoreode._typing import RowSampler
from scoreode.data import stored
from scoreode.data.domains import Support
from scoreode.data.images import Images, Pixels
from scoreode.data.kinds import Kinds, categories_in, indicators, width
from scoreode.data.roles import n_roles, roles_of, with_roles
from scoreode.data.stored import Stored, blocks
from scoreode.data.toy import AbstractToy
from scoreode.errors import InputError, listing

Part = np.ndarray | Stored
Extremes = tuple[np.ndarray, np.ndarray]

_LEAST_SPREAD = 1e-150  # the square of less is 0, and with it the variance
_TO_STANDARDISE = 10_000  # draws of an endless sampler that stand for its training rows


@dataclass(frozen=True)
class Conditions:
    """What the rows of a data set are conditioned on: c of shape (n, k), part by part."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    columns: tuple[str, ...]

    @cached_property
    def extremes(self) -> Extremes:
        """The least and the greatest value of every column in training."""
        return _extremes(self.train)


@dataclass(frozen=True)
class Origin:
    """Where the rows of a part are in their source: their numbers from 0 in `part`, or in all of
    it, where that is empty."""

    numbers: np.ndarray
    part: str = ""


@dataclass(frozen=True)
class Dataset:
    """Rows for training, validation and test, each (n, d), in the data's own units.

    `sampler`, where given, draws fresh training rows without end. `bin_width` is the grid on which
    discrete data lie, one width or one for every column, 0 for those that are continuous; without
    one there are no bits/dim. `bin_edge` is a value that lies on it. `entropy` is the truth's, in
    nats. `image_shape` says how a row is drawn as a picture. With `conditions` the density is that
    of a row given its own. Weights, where given, say how often a row of training or validation
    counts, relative to others. `path` is where the file or the folder lies. Parts of large sets are
    `Stored`, unless there are conditions or weights. `origins` are those of parts that were drawn
    from others.

    `kinds` are those of the columns and conditions that are no plain numbers. Categories are
    conditions, too: `categories` are the first of them, whose law is modelled beside p(x | c), so
    that the density is that of all; `layout` has the names of columns and categories in order.
    `support` has the domains of columns that are bounded or angles.

    `gaps` are the columns that lack values in some rows, where they are NaN; which they are is
    modelled, too. With `subsets` the densities of all sets of columns are.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    columns: tuple[str, ...]
    sampler: RowSampler | None = None
    entropy: float | None = None
    bin_width: float | tuple[float, ...] | None = None
    bin_edge: float | tuple[float, ...] = 0.0
    image_shape: tuple[int, ...] | None = None
    conditions: Conditions | None = None
    train_weights: np.ndarray | None = None
    validation_weights: np.ndarray | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)
    path: str | None = None
    kinds: Kinds = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    layout: tuple[str, ...] = ()
    support: Support = field(default_factory=dict)
    gaps: tuple[str, ...] = ()
    subsets: bool = False

    @property
    def has_roles(self) -> bool:
        """Whether a network is told the role of every column; see `data.roles`."""
        return bool(self.gaps) or self.subsets

    @cached_property
    def extremes(self) -> Extremes:
        """The least and the greatest value of every column in training; large sets are read once,
        however often this is asked for."""
        return _extremes(self.train)

    def representative(self, most: int) -> np.ndarray:
        """The numbers of at most so many training rows that stand for all; of weighted ones each as
        often as its weight asks for (systematic resampling)."""
        n = min(most, len(self.train))
        if self.train_weights is None:
            return np.arange(n)
        ends = np.cumsum(self.train_weights)
        return np.searchsorted(ends, (np.arange(n) + 0.5) / n * ends[-1])

    @property
    def given(self) -> tuple[str, ...]:
        """The conditions that are no categories whose law is modelled."""
        found = () if self.conditions is None else tuple(self.conditions.columns)
        return found[len(self.categories) :]

    @property
    def n_conditions(self) -> int:
        """How many numbers the rows are conditioned on: of a category, as many as indicators."""
        names = () if self.conditions is None else self.conditions.columns
        return width(names, self.kinds) + (n_roles(len(self.columns)) if self.has_roles else 0)

    @cached_property
    def coded(self) -> "Dataset":
        """The same with indicators in place of categories among the conditions, and with the roles
        of the columns, if a network is told them."""
        given = self.conditions
        named = () if given is None else given.columns
        if not (self.has_roles or categories_in(named, self.kinds)):
            return self
        c = {}
        for part in ("train", "validation", "test"):
            x = getattr(self, part)
            c[part] = np.empty((len(x), 0))
            if given is not None:
                c[part] = indicators(getattr(given, part), named, self.kinds)
            if self.has_roles:
                c[part] = with_roles(c[part], *roles_of(np.isnan(x), self.columns, self.gaps))
        names = tuple(f"c{i}" for i in range(self.n_conditions))
        conditions = Conditions(**c, columns=names) if names else None
        plain = {"kinds": {}, "categories": (), "gaps": (), "subsets": False}
        return replace(self, conditions=conditions, **plain)


def condition_on(data: Dataset, names: Sequence[str]) -> Dataset:
    """The data set of the other columns, given these.

    **Raises:** `InputError` for columns that are not there, for constant ones, for all of them, and
    for rows that are drawn without end.
    """
    given, rest = split_columns(data.columns, names, data.name)
    if data.sampler is not None or data.image_shape is not None:
        raise InputError(f"{data.name}: has no columns to condition on; give a table")
    parts = {part: getattr(data, part)[:] for part in ("train", "validation", "test")}
    c = {part: rows[:, given] for part, rows in parts.items()}
    columns = np.asarray(data.columns, object)
    conditions = Conditions(**c, columns=tuple(columns[given]))
    check_varied(conditions, data.name, "tells nothing; drop it")
    rows = {part: rows[:, rest] for part, rows in parts.items()}
    return replace(data, **rows, columns=tuple(columns[rest]), conditions=conditions)


def split_columns(
    columns: Sequence[str], names: Sequence[str], source: str
) -> tuple[list[int], list[int]]:
    """Indices of the columns of these names, in the names' order, and of the others.

    **Raises:** `InputError` for names that are not there or come twice, and if no others are left.
    """
    given = named_columns(columns, names, source)
    rest = [i for i in range(len(columns)) if i not in given]
    if not rest:
        raise InputError(f"{source}: every column is a condition; leave one to model")
    return given, rest


def named_columns(columns: Sequence[str], names: Sequence[str], source: str) -> list[int]:
    """Where the columns of these names are. **Raises:** `InputError` for one that is not there."""
    missing = [name for name in names if name not in columns]
    if missing:
        raise InputError(
            f"{source}: has no column {listing(missing)} to condition on; it has {listing(columns)}"
        )
    if len(set(names)) < len(names):
        raise InputError(f"{source}: conditions {', '.join(names)}: name every column once")
    return [list(columns).index(name) for name in names]


def split(rows: Part, seed: int, validation: float, test: float = 0.0) -> list[Part]:
    """[train, validation, test], disjoint parts of the rows, as `split_numbers` numbers them.

    Parts of a large array are not copied.
    """
    return [stored.take(rows, part) for part in split_numbers(len(rows), seed, validation, test)]


def split_numbers(n: int, seed: int, validation: float, test: float = 0.0) -> list[np.ndarray]:
    """The numbers of [train, validation, test] among n rows, shuffled by the seed.

    A positive fraction takes at least one row; training keeps at least one.

    **Raises:** `InputError` for a validation fraction outside [0, 1), and for one that leaves fewer
    than two rows to train on.
    """
    if not 0 <= validation < 1:
        raise InputError(f"validation_fraction {validation}: must be at least 0 and below 1")
    left = n - round(validation * n) - round(test * n)
    if left < min(2, n):
        raise InputError(
            f"validation_fraction {validation}: leaves {left} of {n} rows to train on; it takes at"
            " least 2"
        )
    order = np.random.default_rng(seed).permutation(n)
    sizes = [max(1, round(fraction * n)) if fraction > 0 else 0 for fraction in (validation, test)]
    if sum(sizes) >= n:
        sizes = [0, 0]
    cuts = np.cumsum([n - sum(sizes), sizes[0]])
    return np.split(order, cuts)


def origins(n: int, seed: int, validation: float, test: float = 0.0) -> dict[str, Origin]:
    """Those of the parts that `split` makes."""
    parts = split_numbers(n, seed, validation, test)
    return dict(zip(("train", "validation", "test"), map(Origin, parts), strict=True))


def from_rows(
    name: str,
    rows: np.ndarray,
    columns: Sequence[str],
    seed: int,
    validation: float,
    test: float = 0.0,
    bin_width: float | None = None,
    image_shape: tuple[int, ...] | None = None,
    weights: np.ndarray | None = None,
) -> Dataset:
    """A data set from one array, and a weight for every row or None, split by the seed."""
    train, held_out, tested = split(rows, seed, validation, test)
    data = Dataset(
        name,
        train,
        held_out,
        tested,
        tuple(columns),
        bin_width=bin_width,
        image_shape=image_shape,
        origins=origins(len(rows), seed, validation, test),
    )
    if weights is None:
        return data
    weighted = [part[:] for part in split(weights, seed, validation, test)]
    return replace(data, train=train[:], train_weights=weighted[0], validation_weights=weighted[1])


def from_sampler(
    name: str, toy: AbstractToy, seed: int, n_validation: int = 2000, n_test: int = 20_000
) -> Dataset:
    """A toy: endless training rows, and fixed validation and test rows by the seed."""
    keys = jr.split(jr.fold_in(jr.key(seed), 0x7E57), 3)
    counts = (_TO_STANDARDISE, n_validation, n_test)
    train, validation, test = (np.asarray(toy(key, n)) for key, n in zip(keys, counts, strict=True))
    columns = tuple(f"x{i}" for i in range(toy.dim))
    return Dataset(name, train, validation, test, columns, sampler=toy, entropy=toy.entropy)


def digits(seed: int) -> Dataset:
    """scikit-learn's 1797 handwritten digits, 8 × 8 with 17 grey levels, as rows of 64."""
    from sklearn.datasets import load_digits

    rows = np.asarray(load_digits(return_X_y=True)[0])
    columns = [f"pixel_{i}_{j}" for i in range(8) for j in range(8)]
    return from_rows("digits", rows, columns, seed, 0.1, 0.2, bin_width=1.0, image_shape=(8, 8))


def from_images(name: str, images: Images, seed: int, validation: float) -> Dataset:
    """A set of images as rows of bytes, the published test part whole."""
    rows, columns = flat(images.train)
    train, held_out, _ = split(rows, seed, validation)
    test, shape = flat(images.test)[0], images.train.shape[1:]
    drawn = {"validation": Origin(split_numbers(len(rows), seed, validation)[1])}
    return Dataset(
        name, train, held_out, test, columns, bin_width=1.0, image_shape=shape, origins=drawn
    )


def flat(pixels: Pixels) -> tuple[np.ndarray, tuple[str, ...]]:
    """Images as rows, and the names of their columns."""
    columns = (f"pixel_{i}_{j}_{c}" for i, j, c in np.ndindex(pixels.shape[1:]))
    return pixels.reshape(len(pixels), math.prod(pixels.shape[1:])), tuple(columns)


def check_varied(
    known: Dataset | Conditions,
    source: str,
    remedy: str = "has no density; drop it, or declare it discrete",
    among: Sequence[int] | None = None,
) -> None:
    """Raises `InputError` naming every column that holds one value only, and what to do about it.

    A constant column has no density, and as a condition it tells nothing. So does one that varies
    so little that its variance is 0.

    **Arguments:** `among`, the numbers of the columns that must vary (None: all).
    """
    (low, high), columns, n = known.extremes, known.columns, len(known.train)
    numbers = range(len(columns)) if among is None else among
    constant = [columns[j] for j in numbers if low[j] == high[j]]
    if constant:
        raise InputError(
            f"{source}: constant column{'s' * (len(constant) > 1)} {listing(constant)}: a constant"
            f" {remedy} (among the {n} rows for training)"
        )
    thin = [columns[j] for j in numbers if high[j] - low[j] < _LEAST_SPREAD]
    if thin:
        raise InputError(
            f"{source}: column{'s' * (len(thin) > 1)} {listing(thin)}: values differ by less than"
            f" {_LEAST_SPREAD:g}, and their squares are 0; multiply them by a power of ten"
        )


def _extremes(rows: Part) -> Extremes:
    least, most = np.fmin.reduce, np.fmax.reduce  # of the values that are there
    low, high = zip(*((least(block), most(block)) for block in blocks(rows)), strict=True)
    return least(low), most(high)
