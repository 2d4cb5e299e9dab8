"""Missing values: which columns have some.

A missing value is NaN in a column of numbers, and the level None of a category.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scoreode.data.dataset import Dataset
from scoreode.data.stored import Stored, blocks
from scoreode.errors import InputError, listing

_PARTS = ("train", "validation", "test")


def with_gaps(data: Dataset, known: Sequence[str] = (), *, subsets: bool = False) -> Dataset:
    """The data set with the names of the columns of numbers that have gaps.

    **Arguments:** `known`, columns that may have gaps, whether they do or not; `subsets`: the
    densities of all sets of columns are to be learnt.

    **Raises:** `InputError` for columns that hold no value in training.
    """
    if data.sampler is not None or data.image_shape is not None:
        return data
    empty, lacking = np.ones(len(data.columns), bool), np.zeros(len(data.columns), bool)
    for part in _PARTS:
        for rows in blocks(getattr(data, part)):
            nothing = np.isnan(rows) if rows.dtype.kind == "f" else np.zeros(rows.shape, bool)
            lacking |= nothing.any(0)
            empty &= nothing.all(0) | (part != "train")
    if empty.any():
        names = [data.columns[j] for j in np.flatnonzero(empty)]
        raise InputError(
            f"{data.name}: column{'s' * (len(names) > 1)} {listing(names)}: no row has a value;"
            f" drop {'them' if len(names) > 1 else 'it'} (among the {len(data.train)} rows for"
            " training)"
        )
    gaps = [n for n, lacks in zip(data.columns, lacking, strict=True) if lacks or n in known]
    if not gaps and not subsets:
        return data
    rows = {part: _in_memory(getattr(data, part)) for part in _PARTS}
    return replace(data, **rows, gaps=tuple(gaps), subsets=subsets)


def note_of(data: Dataset) -> str | None:
    """The columns with gaps and the shares of the training rows that have them, in one line."""
    shares = {}
    if data.gaps:
        lacks = dict(zip(data.columns, np.isnan(data.train[:]).mean(0), strict=True))
        shares = {name: lacks[name] for name in data.gaps}
    for j, name in enumerate(data.categories):
        levels = getattr(data.kinds[name], "levels", ())
        if None in levels and data.conditions is not None:
            shares[name] = np.mean(data.conditions.train[:, j] == len(levels) - 1)
    names = [f"{name} ({100 * share:.2g} %)" for name, share in shares.items()]
    return f"missing values: {listing(names)}" if names else None


def _in_memory(rows: np.ndarray | Stored) -> np.ndarray:
    return np.asarray(rows[:], np.float64)
