"""Tables from .csv, .parquet, .npy and .npz files and from DataFrames, checked row by row.

A file holds one table, or (.npz) the arrays x_train, x_val and x_test of a published split.
Nothing is unpickled. What cannot be used is named: the file, the column, the row.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.data import stored
from scoreode.errors import InputError, listed

SUFFIXES = (".csv", ".parquet", ".npy", ".npz")
PARTS = {"train": "x_train", "validation": "x_val", "test": "x_test"}
_LARGEST = 1e150  # the square of more overflows, and with it the variance


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The table in a file: {"all": rows} or {"train": …, "validation": …, "test": …}; columns.

    Rows are float64 (n, d), finite, with n ≥ 1; those of a large .npy stay on the disk as they are.

    **Raises:** `InputError` for a missing, empty or damaged file, an unknown suffix, a .csv without
    a header, text in a numeric column, missing or infinite values.
    """
    path = _existing(Path(path))
    if path.suffix in (".npy", ".npz"):
        return _read_numpy(path)
    frame, columns = _scanned(path)
    with _readable(path):
        frame = frame.collect()
    return {"all": from_frame(frame, str(path))[0]}, columns


def blocks(
    path: str | os.PathLike[str], part: str, size: int
) -> tuple[tuple[str, ...], Iterator[np.ndarray]]:
    """The columns of a file, and its rows in blocks of at most this size, checked as by `read`.

    A .csv, .parquet or .npy file is never in memory as a whole. Of an .npz of several parts the
    named one is taken.

    **Raises:** `InputError`, as `read`; for a bad row when its block is asked for.
    """
    path = _existing(Path(path))
    if path.suffix in (".npy", ".npz"):
        return _numpy_blocks(path, part, size)
    frame, columns = _scanned(path)
    return columns, _frame_blocks(frame, path, size)


def _numpy_blocks(path: Path, part: str, size: int) -> tuple[tuple[str, ...], Iterator[np.ndarray]]:
    parts, columns = _arrays(path)
    rows = parts.get(part, parts.get("all"))
    if rows is None or len(rows) == 0:
        raise InputError(f"{path}: has no {part} rows")
    starts = range(0, len(rows), size)
    return columns, (checked(rows[i : i + size], columns, str(path), i) for i in starts)


def _frame_blocks(frame: Any, path: Path, size: int) -> Iterator[np.ndarray]:
    first_row = 0
    with _readable(path):
        for batch in frame.collect_batches(chunk_size=size):
            for block in batch.iter_slices(size):
                yield from_frame(block, str(path), first_row)[0]
                first_row += len(block)
    if not first_row:
        raise InputError(f"{path}: no rows below the header")


def _existing(path: Path) -> Path:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown kind of file; use {', '.join(SUFFIXES)}")
    try:
        if path.is_dir():
            raise InputError(f"{path}: no such file, but a folder")
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return path


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import polars as pl

    try:
        yield
    except InputError:
        raise
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error


def _scanned(path: Path) -> tuple[Any, tuple[str, ...]]:
    """A polars LazyFrame of the file, and its columns."""
    import polars as pl

    with _readable(path):
        if path.suffix == ".parquet":
            frame = pl.scan_parquet(path)
            return frame, tuple(frame.collect_schema())
        names = pl.read_csv(path, has_header=False, n_rows=1, infer_schema=False).row(0)
        # Every row decides a column's type: text in the last row is named, not guessed around.
        schema = pl.scan_csv(path, infer_schema_length=None).collect_schema()
    _check_header(names, path)
    # NumPy has no integers of 128 bits, which whole numbers of 20 digits are read as.
    schema = {
        name: pl.Float64 if str(kind)[-3:] == "128" else kind for name, kind in schema.items()
    }
    return pl.scan_csv(path, schema=schema), tuple(schema)


def _check_header(names: tuple[str | None, ...], path: Path) -> None:
    """Refuses a first line that is a row of data, and columns without a name of their own."""
    unnamed = [i for i, name in enumerate(names, 1) if not (name or "").strip()]
    if unnamed:
        raise InputError(
            f"{path}: the header has no name for column{'s' * (len(unnamed) > 1)}"
            f" {listed(unnamed)}; name it, or drop it if it only counts the rows"
        )
    counting = [str(i) for i in range(len(names))]  # pandas' header where columns have no names
    if list(names) != counting and all(_is_number(name) for name in names):
        raise InputError(f"{path}: the first line holds numbers; put a header with names above it")
    repeated = sorted({str(name) for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: several columns are called {listed(repeated)}; rename them")


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def _read_numpy(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    parts, columns = _arrays(path)
    sources = {part: f"{path}[{key}]" for part, key in PARTS.items()} | {"all": str(path)}
    if path.suffix == ".npy" and parts["all"].nbytes > stored.LARGE:
        for i in range(0, len(parts["all"]), stored.BLOCK):
            checked(parts["all"][i : i + stored.BLOCK], columns, str(path), i)
        return parts, columns
    return {part: checked(rows, columns, sources[part]) for part, rows in parts.items()}, columns


def _arrays(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The parts of a file, not checked, and the names of their columns; .npy stays on the disk."""
    try:
        if path.suffix == ".npy":
            arrays = {"all": np.load(path, mmap_mode="r", allow_pickle=False)}
        else:
            with open(path, "rb") as file:
                arrays = dict(np.load(file, allow_pickle=False))
    except Exception as error:  # damage surfaces as any of many errors of zip, zlib and NumPy
        no_numbers = "it holds objects, which are not unpickled, or is of another format"
        reason = no_numbers if "pickle" in str(error) else error
        raise InputError(f"{path}: cannot be read: {reason}") from error
    if "x_train" in arrays:
        parts = {part: arrays[key] for part, key in PARTS.items() if key in arrays}
    elif len(arrays) == 1:
        parts = {"all": next(iter(arrays.values()))}
    else:
        raise InputError(
            f"{path}: holds {', '.join(arrays) or 'nothing'}; give one array, or x_train with"
            " x_val and x_test"
        )
    first = next(iter(parts.values()))
    return parts, tuple(f"x{i}" for i in range(first.shape[1] if first.ndim > 1 else 1))


def from_frame(
    frame: Any, source: str = "DataFrame", first_row: int = 0
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Rows and column names of a polars or pandas DataFrame.

    **Raises:** `InputError` naming columns that are not numeric, or hold missing values.
    """
    columns = tuple(str(name) for name in frame.columns)
    if not columns or len(frame) == 0:
        raise InputError(f"{source}: no rows below the header" if columns else f"{source}: empty")
    arrays = [
        _numeric(np.asarray(frame[name]), str(name), source, first_row) for name in frame.columns
    ]
    return checked(np.stack(arrays, axis=1), columns, source, first_row), columns


def _numeric(values: np.ndarray, name: str, source: str, first_row: int) -> np.ndarray:
    """A column as floats; text that is not a number is named with its row."""
    if values.dtype.kind in "fiub" and values.ndim == 1:
        return values.astype(np.float64)
    numbers = np.full(len(values), np.nan)
    for i, value in enumerate(values.astype(str) if values.dtype.kind in "mM" else values):
        try:
            numbers[i] = np.nan if _missing(value) else float(value)
        except (TypeError, ValueError):
            raise InputError(
                f"{source}: column {name!r} is not numeric: row {first_row + i + 1} holds"
                f" {str(value)!r}; encode it as numbers or drop the column"
            ) from None
    return numbers


def _missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType")  # pandas' own


def checked(
    rows: np.ndarray, columns: tuple[str, ...], source: str, first_row: int = 0
) -> np.ndarray:
    """float64 rows (n, d), or an `InputError` that says what is wrong and where (rows from 1)."""
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
    rows = rows.astype(np.float64)
    bad: np.ndarray = ~(np.abs(rows) < _LARGEST)
    if bad.any():
        numbers = (np.flatnonzero(bad.any(axis=1)) + first_row + 1).tolist()
        names = [columns[i] for i in np.flatnonzero(bad.any(axis=0))]
        raise InputError(
            f"{source}: missing, infinite or huge values in row{'s' * (len(numbers) > 1)}"
            f" {listed(numbers)}, column{'s' * (len(names) > 1)} {listed(names)} (the first is"
            f" {_named(rows[bad][0])}); fill them in or drop the rows"
        )
    return rows


def _named(value: float) -> str:
    if np.isnan(value):
        return "NaN"
    return f"{value:g}".replace("inf", "infinity")
