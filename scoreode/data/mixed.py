"""Tables of numbers, categories and dates: categories apart from the rest, and what is said."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from scoreode.data import gaps
from scoreode.data.dataset import Conditions, Dataset
from scoreode.data.kinds import Category, Date, Kinds, categories_in
from scoreode.errors import InputError, listing

_PARTS = ("train", "validation", "test")


def set_apart(data: Dataset, known: Sequence[str] = (), *, subsets: bool = False) -> Dataset:
    """The data set whose categories are conditions of its numbers, with their law to be modelled.

    The levels of all categories are grouped by the training rows; see `Category.grouped`.

    **Arguments:** `known` and `subsets`, see `gaps.with_gaps`.

    **Raises:** `InputError` for categories of which training has one level only, for columns
    without a value, and for conditions that are missing in some rows.
    """
    _check_conditions(data)
    names = categories_in(data.columns, data.kinds)
    if names:
        data = _apart(data, names)
    data = gaps.with_gaps(data, known, subsets=subsets)
    if data.conditions is None or not categories_in(data.conditions.columns, data.kinds):
        return data
    kinds = dict(data.kinds)
    for column, name in zip(data.conditions.train.T, data.conditions.columns, strict=True):
        kind = kinds.get(name)
        if isinstance(kind, Category):
            kinds[name] = kind.grouped(column)
    return replace(data, kinds=kinds)


def _check_conditions(data: Dataset) -> None:
    """Raises `InputError` for columns among the conditions that lack values."""
    if data.conditions is None:
        return
    for j, name in enumerate(data.conditions.columns):
        kind = data.kinds.get(name)
        lacks = any(np.isnan(getattr(data.conditions, part)[:, j]).any() for part in _PARTS)
        if lacks or (isinstance(kind, Category) and kind.has_gaps):
            raise InputError(
                f"{data.name}: column {name} lacks values, and a density is given all of its"
                " conditions: fill them in, drop the rows, or model the column with the others"
            )


def _apart(data: Dataset, names: list[str]) -> Dataset:
    columns = list(data.columns)
    at = [columns.index(name) for name in names]
    rest = [i for i in range(len(columns)) if i not in at]
    rows = {part: getattr(data, part)[:] for part in _PARTS}
    codes = {part: rows[part][:, at] for part in _PARTS}
    constant = [name for name, column in zip(names, codes["train"].T, strict=True) if _one(column)]
    if constant:
        raise InputError(
            f"{data.name}: constant column {constant[0]}: a category of one level tells nothing;"
            f" drop it (among the {len(data.train)} rows for training)"
        )
    given = data.conditions
    if given is not None:
        codes = {p: np.concatenate([codes[p], getattr(given, p)], axis=1) for p in _PARTS}
    conditions = Conditions(**codes, columns=(*names, *(() if given is None else given.columns)))
    return replace(
        data,
        **{part: rows[part][:, rest] for part in _PARTS},
        columns=tuple(columns[i] for i in rest),
        conditions=conditions,
        categories=tuple(names),
        layout=tuple(columns),
    )


def _one(column: np.ndarray) -> bool:
    return len(np.unique(column)) < 2


def check_numbers(names: Collection[str], data: Dataset, option: str) -> None:
    """Raises `InputError` if some of these names, given as an option, are of categories."""
    found = [name for name in data.categories if name in names]
    if found:
        raise InputError(
            f"{data.name}: {option} is for numbers, and {listing(found)}"
            f" {'are categories' if len(found) > 1 else 'is a category'}, with exact masses: leave"
            f" {'them' if len(found) > 1 else 'it'} out"
        )


def described(kinds: Kinds) -> dict[str, str]:
    """The categories with the numbers of their levels, and the dates with their units."""
    levels = [f"{name} ({k.n_values})" for name, k in kinds.items() if isinstance(k, Category)]
    dates = [f"{name} ({k.unit}s)" for name, k in kinds.items() if isinstance(k, Date)]
    found = {"categories and their levels": levels, "dates, since 1970-01-01": dates}
    return {what: listing(names) for what, names in found.items() if names}


def note_of(data: Dataset) -> str | None:
    """What was taken as categories and dates, and where values are missing, in one line; None for
    numbers only that are all there."""
    found = [f"{what}: {names}" for what, names in described(data.kinds).items()]
    missing = gaps.note_of(data)
    return "; ".join([*found, *([] if missing is None else [missing])]) or None
