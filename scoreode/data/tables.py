"""Tables from .csv, .parquet, .npy and .npz files and from DataFrames, checked row by row.

A file holds one table, or (.npz) the arrays x_train, x_val and x_test of a published split.
Nothing is unpickled. What cannot be used is named: the file, the column, the row.
"""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.errors import InputError

SUFFIXES = (".csv", ".parquet", ".npy", ".npz")
PARTS = {"train": "x_train", "validation": "x_val", "test": "x_test"}
_SHOWN = 10  # rows or values named in a message before "…"


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The table in a file: {"all": rows} or {"train": …, "validation": …, "test": …}; columns.

    Rows are float64 (n, d), finite, with n ≥ 1.

    **Raises:** `InputError` for a missing, empty or damaged file, an unknown suffix, text in a
    numeric column, missing or infinite values.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown kind of file; use {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    if path.suffix in (".npy", ".npz"):
        return _read_numpy(path)
    rows, columns = from_frame(_read_frame(path), str(path))
    return {"all": rows}, columns


def _read_frame(path: Path) -> Any:
    import polars as pl

    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        # Every row decides a column's type: text in the last row is named, not guessed around.
        return pl.read_csv(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error


def _read_numpy(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays: Mapping[str, np.ndarray]
        arrays = dict(loaded) if path.suffix == ".npz" else {"all": loaded}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if "x_train" in arrays:
        parts = {part: arrays[key] for part, key in PARTS.items() if key in arrays}
    elif len(arrays) == 1:
        parts = {"all": next(iter(arrays.values()))}
    else:
        raise InputError(
            f"{path}: holds {', '.join(arrays) or 'nothing'}; give one array, or x_train with"
            " x_val and x_test"
        )
    columns = tuple(f"x{i}" for i in range(np.atleast_2d(next(iter(parts.values()))).shape[-1]))
    return {
        part: checked(rows, columns, f"{path}[{part}]") for part, rows in parts.items()
    }, columns


def from_frame(frame: Any, source: str = "DataFrame") -> tuple[np.ndarray, tuple[str, ...]]:
    """Rows and column names of a polars or pandas DataFrame.

    **Raises:** `InputError` naming columns that are not numeric, or hold missing values.
    """
    columns = tuple(str(name) for name in frame.columns)
    if not columns or len(frame) == 0:
        raise InputError(f"{source}: no rows below the header" if columns else f"{source}: empty")
    arrays = [_numeric(np.asarray(frame[name]), name, source) for name in frame.columns]
    return checked(np.stack(arrays, axis=1), columns, source), columns


def _numeric(values: np.ndarray, name: str, source: str) -> np.ndarray:
    """A column as floats; text that is not a number is named with its row."""
    if values.dtype.kind in "fiub":
        return values.astype(np.float64)
    numbers = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        try:
            numbers[i] = np.nan if value is None else float(value)
        except (TypeError, ValueError):
            raise InputError(
                f"{source}: column {name!r} is not numeric: row {i + 1} holds {value!r};"
                " encode it as numbers or drop the column"
            ) from None
    return numbers


def checked(rows: np.ndarray, columns: tuple[str, ...], source: str) -> np.ndarray:
    """float64 rows (n, d), or an `InputError` that says what is wrong and where (rows from 1)."""
    if rows.dtype.kind not in "fiub":
        raise InputError(f"{source}: holds {rows.dtype}, not numbers")
    rows = rows.reshape(-1, 1) if rows.ndim == 1 else rows
    if rows.ndim != 2:
        raise InputError(f"{source}: has shape {rows.shape}; a table has rows and columns")
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        raise InputError(f"{source}: no rows")
    rows = rows.astype(np.float64)
    bad: np.ndarray = ~np.isfinite(rows)
    if bad.any():
        numbers = np.flatnonzero(bad.any(axis=1)) + 1
        names = [columns[i] for i in np.flatnonzero(bad.any(axis=0))]
        raise InputError(
            f"{source}: missing or infinite values in row{'s' * (len(numbers) > 1)}"
            f" {_listed(numbers)}, column{'s' * (len(names) > 1)} {_listed(names)}; fill them in"
            " or drop the rows"
        )
    return rows


def _listed(items: Any) -> str:
    shown = ", ".join(str(item) for item in items[:_SHOWN])
    return shown + (f", … ({len(items)} in all)" if len(items) > _SHOWN else "")
