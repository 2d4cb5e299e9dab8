"""The kinds of columns: numbers, categories with their levels, and dates with their unit.

In a table of float64 a category is the number of its level, from 0, and a date is a time in its
unit since 1970-01-01. Columns without a `Kind` are numbers.
"""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from scoreode.errors import InputError

Level = str | bool | int | float | None
Values = Sequence[Any] | np.ndarray
_LEAST_ROWS, _LEAST_SHARE = 10, 1 / 500  # of the rows, of a level with an indicator of its own
_DAY, _CLOCK, _OFFSET = (
    r"\d{4}-\d\d-\d\d",
    r"[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?",
    r"(Z|[+-]\d\d:?\d\d)",
)
_ISO, _ZONED = re.compile(f"{_DAY}({_CLOCK})?"), re.compile(_DAY + _CLOCK + _OFFSET)
_MICROSECONDS = {"day": 86_400_000_000, "second": 1_000_000}
_YEARS = np.array(["0001-01-01", "9999-12-31"], "datetime64[us]").astype(np.int64)


@dataclass(frozen=True)
class Category:
    """A column of few values without a unit.

    **Arguments:** `levels`, its values in order, and None last where training lacked some;
    `source`, "text", "boolean", "category" or "number", the type that they came as; `ordered`,
    whether a column of type category was; `groups` of levels that share an indicator, one number a
    level, from 0 on.
    """

    levels: tuple[Level, ...]
    source: str
    ordered: bool = False
    groups: tuple[int, ...] = ()

    def encode(self, values: Values, place: str, first_row: int = 0) -> np.ndarray:
        """The numbers of the levels; NaN where there is no value and None is no level.

        **Raises:** `InputError` naming the `place` and the row of a value that is no level.
        """
        numbers = {level: i for i, level in enumerate(self.levels)}
        codes = np.empty(len(values))
        for i, value in enumerate(values):
            code = numbers.get(None, np.nan) if missing(value) else numbers.get(as_level(value))
            if code is None:
                code = numbers.get(str(value))
            if code is None:
                raise InputError(
                    f"{place}, row {first_row + i + 1} holds {value!r}, which training did not"
                    " have; drop the row, or fit with such rows"
                )
            codes[i] = code
        return codes

    def decode(self, codes: np.ndarray) -> list[Level]:
        """The levels of these numbers."""
        return np.array([*self.levels, None], object)[codes.astype(int)].tolist()

    def grouped(self, codes: np.ndarray) -> "Category":
        """The same with groups by the codes of training rows, unless there are some.

        Group 0 has the most frequent level. Every other level of at least 10 rows, and of one row
        in 500, has its own group. The rest share one, which is group 0 if together they have fewer.
        """
        if self.groups:
            return self
        counts = np.bincount(codes.astype(int), minlength=len(self.levels))
        least = max(_LEAST_ROWS, _LEAST_SHARE * len(codes))
        rare = counts < least
        most = int(np.argmax(counts))
        alone = [j for j in range(len(counts)) if j != most and not rare[j]]
        rare[most] = False
        rest = len(alone) + 1 if counts[rare].sum() >= least else 0
        own = {j: group for group, j in enumerate(alone, 1)} | {most: 0}
        return replace(self, groups=tuple(own.get(j, rest) for j in range(len(counts))))

    @property
    def n_values(self) -> int:
        """How many levels are values."""
        return len(self.levels) - self.has_gaps

    @property
    def has_gaps(self) -> bool:
        """Whether no value is a level, too."""
        return None in self.levels

    @property
    def n_indicators(self) -> int:
        """How many indicators a column has: one for every group but the first."""
        return max(self.groups, default=0)

    def indicators(self, codes: np.ndarray) -> np.ndarray:
        """1 in the column of the level's group, shape (n, n_indicators); group 0 has zeros."""
        groups = np.array(self.groups)[codes.astype(int)]
        return (groups[:, None] == np.arange(1, self.n_indicators + 1)).astype(np.float64)


@dataclass(frozen=True)
class Date:
    """A column of dates or times, as numbers since 1970-01-01.

    **Arguments:** `unit`, "day" or "second"; `source`, "text", "date" or "time", the type that it
    came as; `whole`, whether there are whole units only; `zone`, of times that have one.
    """

    unit: str
    source: str
    whole: bool = True
    zone: str | None = None

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Times as numbers in the unit; NaN where there is none."""
        times = np.asarray(values, "datetime64[us]")
        numbers = times.astype(np.int64) / _MICROSECONDS[self.unit]
        return np.where(np.isnat(times), np.nan, numbers)

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        """Times, datetime64, in whole units or else in microseconds, within the years 1 to 9999.

        From 1835 to 2105 they are those that were encoded; further away microseconds are lost.
        """
        size = _MICROSECONDS[self.unit]
        there = ~np.isnan(numbers)
        numbers = np.where(there, np.clip(numbers, *(_YEARS / size)), 0.0)
        if self.unit == "day" and self.whole and self.source != "time":
            days = np.rint(numbers).astype(np.int64).astype("datetime64[D]")
            return np.where(there, days, np.datetime64("NaT", "D"))
        ticks = np.rint(numbers) * size if self.whole else np.rint(numbers * size)
        times = np.clip(ticks, *_YEARS).astype(np.int64).astype("datetime64[us]")
        return np.where(there, times, np.datetime64("NaT", "us"))

    def as_text(self, numbers: np.ndarray) -> list[str | None]:
        """Times as text of ISO 8601; None for NaN."""
        times = self.decode(numbers)
        unit = "D" if times.dtype == "datetime64[D]" else "s" if self.whole else "us"
        texts = np.char.add(np.datetime_as_string(times, unit=unit), "Z" * bool(self.zone)).tolist()
        return [
            None if nothing else text for text, nothing in zip(texts, np.isnat(times), strict=True)
        ]

    @classmethod
    def of(cls, times: np.ndarray, source: str, zone: str | None = None) -> "Date":
        """The kind of a column of these times: in days if all are whole days, else in seconds."""
        ticks = times[~np.isnat(times)].astype("datetime64[us]").astype(np.int64)
        days = not np.any(ticks % _MICROSECONDS["day"]) and zone is None
        unit = "day" if days else "second"
        return cls(unit, source, not np.any(ticks % _MICROSECONDS[unit]), zone)


Kind = Category | Date
Kinds = Mapping[str, Kind]
"""The kinds of the columns that are no plain numbers, by name."""
NO_KINDS: Kinds = {}
"""All columns are numbers."""
_KINDS: dict[str, type[Category] | type[Date]] = {"category": Category, "date": Date}


def to_json(kinds: Kinds) -> dict[str, Any]:
    """Kinds by name, each with the name of its type."""
    names = {cls: name for name, cls in _KINDS.items()}
    return {column: {"kind": names[type(kind)]} | asdict(kind) for column, kind in kinds.items()}


def from_json(document: Mapping[str, Any]) -> dict[str, Kind]:
    """What `to_json` wrote. **Raises:** `TypeError` for anything else."""
    return {column: _kind(dict(fields)) for column, fields in document.items()}


def _kind(fields: dict[str, Any]) -> Kind:
    cls = _KINDS.get(fields.pop("kind", None))
    if cls is None:
        raise TypeError("no kind of column")
    found: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return cls(**found)


def categories_in(columns: Sequence[str], kinds: Kinds) -> list[str]:
    """Those of the columns that are categories."""
    return [name for name in columns if isinstance(kinds.get(name), Category)]


def width(columns: Sequence[str], kinds: Kinds) -> int:
    """How many columns `indicators` has."""
    found = (kinds.get(name) for name in columns)
    return sum(k.n_indicators if isinstance(k, Category) else 1 for k in found)


def indicators(c: np.ndarray, columns: Sequence[str], kinds: Kinds) -> np.ndarray:
    """Columns c (n, k), with indicators in place of every category, shape (n, `width`)."""
    parts = []
    for column, name in zip(c.T, columns, strict=True):
        kind = kinds.get(name)
        parts.append(kind.indicators(column) if isinstance(kind, Category) else column[:, None])
    return np.concatenate([np.empty((len(c), 0)), *parts], axis=1)


NO_VALUES = ("", "NA", "N/A", "NULL", "null", "None")
"""Texts that stand for no value among numbers; among other texts they are values."""


def missing(value: Any) -> bool:
    """Whether there is no value: None, NaN, and what pandas has in their place."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def as_level(value: Any) -> Level:
    """A value as JSON has it; text of what JSON does not have, such as an interval."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | bool | int | float) else str(value)


def times_of(values: Values) -> np.ndarray | None:
    """The times in dates of ISO 8601, or in Python's without a zone; None of other values.

    Those that all have an offset from UTC are in UTC.
    """
    there = [value for value in values if not missing(value)]
    if has_offset(there[:1]):
        return _in_utc(values)
    iso = all(isinstance(v, str) and _ISO.fullmatch(v) for v in there)
    dates = all(isinstance(v, datetime.date) and getattr(v, "tzinfo", None) is None for v in there)
    if not there or not (iso or dates):
        return None
    try:
        return np.array([None if missing(v) else v for v in values], "datetime64[us]")
    except ValueError:  # of a month 13
        return None


def has_offset(values: Values) -> bool:
    """Whether these are texts of times with an offset from UTC, such as Z or +01:00."""
    return len(values) > 0 and all(isinstance(v, str) and _ZONED.fullmatch(v) for v in values)


def _in_utc(values: Values) -> np.ndarray | None:
    """Texts of times with offsets as times in UTC; None of other values."""
    if not has_offset([value for value in values if not missing(value)]):
        return None
    try:
        read = (None if missing(v) else datetime.datetime.fromisoformat(v) for v in values)
        utc = [v and v.astimezone(datetime.UTC).replace(tzinfo=None) for v in read]
        return np.array(utc, "datetime64[us]")
    except (ValueError, OverflowError):
        return None
