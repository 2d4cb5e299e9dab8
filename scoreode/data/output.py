"""Writes rows and results to files; the suffix decides the format."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scoreode._files import check_out, replace_whole
from scoreode.data.tables import SUFFIXES
from scoreode.errors import InputError


def check_new(path: Path, force: bool, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Checks that results can be written to this path, before any work is done.

    **Raises:** `InputError` for an unknown suffix, and for an existing file unless `force`;
    `FailureError` if the disk refuses.
    """
    check_suffix(path, suffixes)
    check_out(path, force)


def check_suffix(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Raises `InputError` for an unknown suffix."""
    if path.suffix not in suffixes:
        raise InputError(f"{path}: unknown kind of file; use {', '.join(suffixes)}")


def write_rows(
    path: Path, rows: np.ndarray, columns: Sequence[str], whole: Sequence[bool] | None = None
) -> None:
    """Writes a table (n, d) that `tables.read` can read.

    **Arguments:** `whole`, which columns to write as integers, in formats with column types.
    """
    if path.suffix == ".npz":
        write_columns(path, {"x": rows})
    else:
        kinds = None if path.suffix == ".npy" else whole
        write_columns(path, by_column(rows, columns, kinds))


def by_column(
    rows: np.ndarray, columns: Sequence[str], whole: Sequence[bool] | None = None
) -> dict[str, np.ndarray]:
    """Rows (n, d) as a dict of columns; those marked `whole` are integers."""
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
    """Writes columns of equal length as .csv, .parquet, .npz, or .npy (one matrix).

    An existing file is replaced by a complete one, or stays unchanged on failure.

    **Raises:** `FailureError` if the disk refuses.
    """
    check_suffix(path)
    with replace_whole(path) as partial:
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
        with open(path, "wb") as file:  # polars only accepts paths in UTF-8
            (frame.write_csv if path.suffix == ".csv" else frame.write_parquet)(file)
    except pl.exceptions.PolarsError as error:  # the Parquet writer wraps errors of the system
        raise OSError(str(error)) from error
