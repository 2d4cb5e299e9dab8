"""Which kind every column of a table is: by its type and values, or as it was in training."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scoreode.data.kinds import (
    NO_KINDS,
    NO_VALUES,
    Category,
    Date,
    Kind,
    Kinds,
    Level,
    Values,
    as_level,
    has_offset,
    missing,
    times_of,
)
from scoreode.errors import InputError, listing

_FEW = 2  # levels that no column has too many of
_SHOWN = 3


@dataclass(frozen=True)
class Reading:
    """How the columns of a table become numbers.

    **Arguments:** `known`, the kinds of training (None: they are found); `categories`, names of
    columns that are categories, whatever they hold; `numbers`, names of booleans that are numbers
    (None: all of them); `gaps`, names of the columns that may lack values (None: all).
    """

    known: Kinds | None = None
    categories: tuple[str, ...] = ()
    numbers: tuple[str, ...] | None = ()
    gaps: tuple[str, ...] | None = ()

    def kinds(self, frame: Any, source: str) -> tuple[Kinds, list[str]]:
        """The kinds of the columns of a DataFrame that are no numbers, and what is wrong with them.

        Text, booleans and columns of type category are categories, and dates are dates. Text of
        which half or more is numbers is neither: it is refused where it is read. Wrong are
        categories of one level, of more levels than half of the rows, and of several types.

        **Raises:** `InputError` for `categories` that are not there.
        """
        if self.known is not None:
            return self.known, []
        columns = [str(name) for name in frame.columns]
        if unknown := [name for name in self.categories if name not in columns]:
            raise InputError(
                f"{source}: has no column {listing(unknown)} to take as a category; it has"
                f" {listing(columns)}"
            )
        kinds = {}
        for name in frame.columns:
            if (kind := self._kind(frame[name], str(name))) is not None:
                kinds[str(name)] = self._with_gaps(kind, frame[name], str(name))
        return kinds, [_problem(name, kind, len(frame)) for name, kind in kinds.items()]

    @property
    def as_text(self) -> tuple[str, ...]:
        """The columns whose fields in a text file are read as they are written."""
        known = (self.known or {}).items()
        texts = [name for name, kind in known if kind.source == "text"]
        return (*self.categories, *texts)

    def _with_gaps(self, kind: Kind, series: Any, name: str) -> Kind:
        """The kind, with no value as the last level of a category that may lack some and does."""
        if not isinstance(kind, Category) or not (self.gaps is None or name in self.gaps):
            return kind
        lacks = any(map(missing, np.asarray(series).tolist()))
        return replace(kind, levels=(*kind.levels, None)) if lacks else kind

    def _kind(self, series: Any, name: str) -> Kind | None:
        """What a column is; None of numbers, and of what cannot be read."""
        if name in self.categories:
            return _category(series, "number")
        if getattr(series.dtype, "is_numeric", bool)():
            return None  # of Polars, whose integers of 128 bits are none of NumPy's
        if type(series.dtype).__name__ in ("CategoricalDtype", "Categorical", "Enum"):
            return _category(series, "category")
        times, zone = times_in(series), zone_of(series)
        values = np.asarray(series)
        if times is not None:
            text = isinstance(_first(values), str)
            zone = "UTC" if text and has_offset([_first(values)]) else zone
            kind = Date.of(times, "text" if text else "time", zone)
            return Date.of(times, "date") if _is_date(series, values) else kind
        there = values if values.dtype.kind == "b" else [v for v in values if not missing(v)]
        types = {type(v) for v in there} if values.dtype.kind == "O" else {values.dtype.type}
        if types and types <= {bool, np.bool_}:
            numbers = self.numbers is None or name in self.numbers
            return None if numbers else _category(series, "boolean")
        if values.dtype.kind not in "OUT" or not any(issubclass(t, str) for t in types):
            return None
        there = [value for value in there if value not in NO_VALUES]
        if 2 * sum(map(_is_number, there)) >= len(there):
            return None
        return _category(series, "text")


NUMBERS = Reading(known=NO_KINDS)
"""All columns are numbers."""


def zone_of(series: Any) -> str | None:
    """The time zone of a column, if it has one."""
    zone = getattr(series.dtype, "tz", None) or getattr(series.dtype, "time_zone", None)
    return None if zone is None else str(zone)


def times_in(series: Any) -> np.ndarray | None:
    """The times in a column of dates, datetime64 in UTC; None for another column."""
    if zone_of(series) is not None:
        if hasattr(series.dt, "tz_convert"):
            return series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        return series.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy()
    values = np.asarray(series)
    if values.dtype.kind == "M":
        return values
    return times_of(values) if values.dtype.kind in "OUT" else None


def _first(values: Values) -> Any:
    return next((value for value in values if not missing(value)), None)


def _is_date(series: Any, values: np.ndarray) -> bool:
    """Whether a column is of type date, not of times."""
    days = values.dtype.kind == "O" and type(_first(values)).__name__ == "date"
    return str(series.dtype) == "Date" or days


def _category(series: Any, source: str) -> Category:
    """The category with the levels in a column, in the order of its type or of its values."""
    there = {as_level(v) for v in np.asarray(series) if not missing(v)}
    if isinstance(next(iter(there), None), bool):
        source = "boolean" if source == "number" else source
    elif all(isinstance(level, str) for level in there):
        source = "text" if source == "number" else source
    accessor = getattr(series, "cat", None) if source == "category" else None
    order = getattr(series.dtype, "categories", None)
    ordered = bool(getattr(accessor, "ordered", type(series.dtype).__name__ == "Enum"))
    if order is not None:
        return Category(tuple(v for v in map(as_level, order) if v in there), source, ordered)
    return Category(tuple(sorted(there, key=_sort_key)), source)


def _sort_key(level: Level) -> tuple[bool, Any]:
    return isinstance(level, str), level


def _problem(name: str, kind: Kind, n: int) -> str:
    """Why a category says nothing; empty if it may."""
    if not isinstance(kind, Category):
        return ""
    if not kind.n_values:
        return f"column {name!r} holds no values; drop it"
    values = kind.levels[: kind.n_values]
    k, texts = len(kind.levels), [isinstance(level, str) for level in values]
    if kind.source != "category" and len(set(texts)) > 1:
        number, text = (kind.levels[texts.index(is_text)] for is_text in (False, True))
        return (
            f"column {name!r} mixes types: {number!r} and {text!r}; make them one, or drop the"
            " column"
        )
    if k == 1:
        return (
            f"column {name!r} is a category of one level, {kind.levels[0]!r}, which tells nothing;"
            " drop it"
        )
    if k > max(_FEW, n // 2):
        shown = ", ".join(repr(level) for level in values[:_SHOWN])
        return (
            f"column {name!r} is a category of {k} levels in {n} rows ({shown} …), as of names or"
            " identifiers: drop it"
        )
    return ""


def _is_number(value: Any) -> bool:
    try:
        float(value.replace(",", ".") if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
