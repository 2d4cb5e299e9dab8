"""Reads columns of numbers from DataFrames and arrays; errors name the columns and rows."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from scoreode.data.kinds import NO_KINDS, NO_VALUES, Category, Kind, Kinds, missing, times_of
from scoreode.data.reading import Reading, times_in
from scoreode.errors import InputError, listing

_LARGEST = 1e150  # beyond it the square overflows, and with it the variance
_EXACT = 2**53  # float64 represents every whole number up to this one
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")


def read_frame(
    frame: Any, source: str, reading: Reading
) -> tuple[np.ndarray, tuple[str, ...], Kinds]:
    """Rows and column names of a DataFrame, and the kinds of the columns that are no numbers.

    **Raises:** `InputError` as `from_frame` and `Reading` do, with all problems in one message.
    """
    check_rows(frame, source)
    kinds, problems = reading.kinds(frame, source)
    return *from_frame(frame, source, kinds=kinds, problems=problems, gaps=reading.gaps), kinds


def from_frame(
    frame: Any,
    source: str = "DataFrame",
    first_row: int = 0,
    kinds: Kinds = NO_KINDS,
    problems: Sequence[str] = (),
    gaps: Sequence[str] | None = (),
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Rows and column names of a polars or pandas DataFrame.

    **Arguments:** `first_row`, the number of the first row in its table; `kinds` of the columns
    that are no plain numbers, and `problems` with them that are known already; `gaps`, the columns
    that may lack values (None: all).

    **Raises:** `InputError` if columns are not numeric, hold missing values, or hold different
    whole numbers that are equal in float64 (it names all of them); if two columns have one name;
    for a category that is no level of its kind, and for what is no date.
    """
    columns = tuple(str(name) for name in frame.columns)
    check_rows(frame, source)
    coded = {
        str(name): _encode(frame[name], kinds[str(name)], f"{source}: column {name}", first_row)
        for name in frame.columns
        if str(name) in kinds
    }
    arrays = {str(n): _values(frame[n]) for n in frame.columns if str(n) not in coded}
    parsed = {n: (coded[n], None) if n in coded else _numbers(arrays[n]) for n in columns}
    text = {name: i for name, (_, i) in parsed.items() if i is not None}
    merged = {name: pair for name, values in arrays.items() if (pair := _merged_pair(values))}
    numeric = [name for name in columns if name not in text]
    rows = np.stack([numbers for numbers, _ in parsed.values()], axis=1)
    numbers = rows[:, [columns.index(name) for name in numeric]]
    found = [
        *problems,
        _text_problem({name: (i + first_row + 1, arrays[name][i]) for name, i in text.items()}),
        _merged_problem(merged),
        _missing_problem(numbers, numeric, first_row, gaps),
    ]
    _refuse(source, found)
    return rows, columns


def check_rows(frame: Any, source: str) -> None:
    """Raises `InputError` for a DataFrame without rows or columns, or with a name twice."""
    columns = tuple(str(name) for name in frame.columns)
    if not columns or len(frame) == 0:
        raise InputError(f"{source}: no rows below the header" if columns else f"{source}: empty")
    check_repeated(columns, source)


def numeric_rows(
    rows: np.ndarray,
    columns: Sequence[str],
    source: str,
    first_row: int = 0,
    gaps: Sequence[str] | None = (),
) -> np.ndarray:
    """The rows (n, d) in float64; NaN only in `gaps` (None: in any column).

    **Raises:** `InputError` with the problem, the columns and the rows, counted from 1.
    """
    if rows.dtype.kind not in "fiub":
        raise InputError(f"{source}: holds {rows.dtype}, not numbers")
    rows = rows.reshape(-1, 1) if rows.ndim == 1 else rows
    if rows.ndim != 2:
        raise InputError(f"{source}: has shape {rows.shape}; a table has rows and columns")
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        raise InputError(f"{source}: no rows")
    if rows.shape[1] != len(columns):
        raise InputError(
            f"{source}: number of columns {rows.shape[1]}, where the first part has {len(columns)}"
        )
    check_whole(rows, columns, source)
    rows = rows.astype(np.float64)
    _refuse(source, [_missing_problem(rows, columns, first_row, gaps)])
    return rows


def check_whole(rows: np.ndarray, columns: Sequence[str], source: str) -> None:
    """Raises `InputError` if different whole numbers in rows (n, d) are equal in float64."""
    pairs = zip(columns, rows.T, strict=True)
    _refuse(
        source, [_merged_problem({name: pair for name, v in pairs if (pair := _merged_pair(v))})]
    )


def check_repeated(columns: Sequence[str | None], source: str) -> None:
    """Raises `InputError` if several columns have the same name."""
    repeated = sorted({str(name) for name in columns if columns.count(name) > 1})
    if repeated:
        raise InputError(f"{source}: several columns are called {listing(repeated)}; rename them")


def _refuse(source: str, problems: Iterable[str]) -> None:
    problems = [problem for problem in problems if problem]
    if problems:
        raise InputError(f"{source}: {'; also: '.join(problems)}")


def _values(series: Any) -> np.ndarray:
    """A column as an array, of objects for 128-bit integers, which NumPy does not have."""
    wide = str(series.dtype).endswith("128") and hasattr(series, "to_list")
    return np.array(series.to_list(), object) if wide else np.asarray(series)


def _encode(series: Any, kind: Kind, place: str, first_row: int) -> np.ndarray:
    """A column of this kind as numbers, NaN where there are none."""
    if isinstance(kind, Category):
        return kind.encode(np.asarray(series).tolist(), place, first_row)
    times = times_in(series)
    if times is None:
        raise InputError(f"{place}: {_no_date(series, first_row)}; write dates as 2024-01-31")
    return kind.encode(times)


def _no_date(series: Any, first_row: int) -> str:
    """The first value that is no date."""
    for i, value in enumerate(np.asarray(series)):
        if not missing(value) and times_of([value]) is None:
            return f"row {first_row + i + 1} holds {str(value)!r}, which is no date"
    return "holds no dates of one form"


def _numbers(values: np.ndarray) -> tuple[np.ndarray, int | None]:
    """A column as floats, and the index of the first value that is not a number."""
    if values.dtype.kind in "fiub" and values.ndim == 1:
        return values.astype(np.float64), None
    numbers = np.full(len(values), np.nan)
    for i, value in enumerate(values.astype(str) if values.dtype.kind in "mM" else values):
        try:
            nothing = missing(value) or (isinstance(value, str) and value.strip() in NO_VALUES)
            numbers[i] = np.nan if nothing else float(value)
        except (TypeError, ValueError, OverflowError):
            return numbers, i
    return numbers, None


def _merged_pair(values: np.ndarray) -> tuple[int, int] | None:
    """Two different whole numbers that are equal in float64; None if there are none."""
    if values.dtype.kind == "O":
        large = sorted({v for v in values if type(v) is int and _EXACT <= abs(v) < _LARGEST})
    elif values.dtype.kind in "iu" and values.itemsize == 8:
        large = np.unique(values[(values >= _EXACT) | (values <= -_EXACT)]).tolist()
    else:
        return None
    return next(((a, b) for a, b in pairwise(large) if float(a) == float(b)), None)


def _text_problem(texts: dict[str, tuple[int, Any]]) -> str:
    if not texts:
        return ""
    values = {name: f"row {row} holds {str(value)!r}" for name, (row, value) in texts.items()}
    commas = any(_DECIMAL_COMMA.fullmatch(str(value)) for _, value in texts.values())
    points = "; write decimal points for decimal commas" if commas else ""
    if len(values) == 1:
        ((name, value),) = values.items()
        remedy = points or "; encode it as numbers or drop the column"
        return f"column {name!r} is not numeric: {value}{remedy}"
    names = listing([f"{name!r} ({value})" for name, value in values.items()])
    remedy = points or "; encode them as numbers or drop the columns"
    return f"columns are not numeric: {names}{remedy}"


def _merged_problem(merged: dict[str, tuple[int, int]]) -> str:
    if not merged:
        return ""
    (a, b), column = next(iter(merged.values())), f"column{'s' * (len(merged) > 1)}"
    return (
        f"{column} {listing(list(merged))}: whole numbers beyond 2^53, such as {a} and {b}, are"
        f" equal in float64; subtract a constant from them, or drop the {column}"
    )


def _missing_problem(
    rows: np.ndarray, columns: Sequence[str], first_row: int, gaps: Sequence[str] | None
) -> str:
    bad: np.ndarray = ~(np.abs(rows) < _LARGEST)
    if not bad.any():
        return ""
    may_lack = [gaps is None or name in gaps for name in columns]
    bad &= ~(np.isnan(rows) & may_lack)
    if not bad.any():
        return ""
    what, remedy = "missing, infinite or huge values", "fill them in or drop the rows"
    if gaps is None:
        what, remedy = "infinite or huge values", "correct them, or leave them out as missing"
    elif gaps and np.isnan(rows[bad]).all():
        what, remedy = "missing values", "training had none there: fill them in, or fit for subsets"
    numbers = (np.flatnonzero(bad.any(axis=1)) + first_row + 1).tolist()
    names = [columns[i] for i in np.flatnonzero(bad.any(axis=0)).tolist()]
    return (
        f"{what} in row{'s' * (len(numbers) > 1)} {listing(numbers)},"
        f" column{'s' * (len(names) > 1)} {listing(names)} (the first is {_text(rows[bad][0])});"
        f" {remedy}"
    )


def _text(value: float) -> str:
    if np.isnan(value):
        return "NaN"
    return f"{value:g}".replace("inf", "infinity")
