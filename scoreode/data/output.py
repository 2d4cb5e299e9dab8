"""Rows and results to files, by suffix."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scoreode._files import check_out, replaced
from scoreode.data.tables import SUFFIXES
from scoreode.errors import InputError


def check_new(path: Path, force: bool, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Whether results can be written there, asked before any work is done.

    **Raises:** `InputError` for a suffix that is not written, and for a file that exists, unless
    `force`; `FailureError` where the disk refuses.
    """
    check_suffix(path, suffixes)
    check_out(path, force)


def check_suffix(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Raises `InputError` for a suffix that is not written."""
    if path.suffix not in suffixes:
        raise InputError(f"{path}: unknown kind of file; use {', '.join(suffixes)}")


def write_rows(
    path: Path, rows: np.ndarray, columns: Sequence[str], whole: Sequence[bool] | None = None
) -> None:
    """A table (n, d), so that `tables.read` reads it back.

    **Arguments:** `whole`: which columns are written as integers, where columns have kinds.
    """
    if path.suffix == ".npz":
        write_columns(path, {"x": rows})
    else:
        kinds = None if path.suffix == ".npy" else whole
        write_columns(path, by_column(rows, columns, kinds))


def by_column(
    rows: np.ndarray, columns: Sequence[str], whole: Sequence[bool] | None = None
) -> dict[str, np.ndarray]:
    """Rows (n, d) as named columns, those of whole numbers as integers."""
    whole = [False] * len(columns) if whole is None else whole
    return {
        name: column.astype(np.int64) if integers else column
        for name, column, integers in zip(columns, rows.T, whole, strict=True)
    }


def whole_columns(bin_width: Any, bin_edge: Any, d: int) -> list[bool]:
    """Which of d columns lie on a grid of whole numbers, by its widths and a value on it."""
    width, edge = (np.broadcast_to(numbers or 0.0, d) for numbers in (bin_width, bin_edge))
    return ((width >= 1) & (width % 1 == 0) & (edge % 1 == 0)).tolist()


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Named columns of equal length as .csv, .parquet, .npz, or (one matrix) .npy.

    What stood there is replaced by a whole file, or stays.

    **Raises:** `FailureError` where the disk refuses.
    """
    check_suffix(path)
    with replaced(path) as partial:
        if path.suffix == ".npy":
            np.save(partial, np.stack(list(columns.values()), axis=1))
        elif path.suffix == ".npz":
            np.savez(partial, allow_pickle=False, **columns)
        else:
            _write_frame(partial, columns)


def _write_frame(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    import polars as pl

    frame = pl.DataFrame(dict(columns))
    try:
        with open(path, "wb") as file:  # polars takes no names that are not UTF-8
            (frame.write_csv if path.suffix == ".csv" else frame.write_parquet)(file)
    except pl.exceptions.PolarsError as error:  # its Parquet writer wraps the system's errors
        raise OSError(str(error)) from error
