"""Rows and results to files, by suffix."""

from collections.abc import Mapping
from pathlib import Path

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


def write_rows(path: Path, rows: np.ndarray, columns: list[str]) -> None:
    """A table (n, d), so that `tables.read` reads it back."""
    if path.suffix == ".npz":
        write_columns(path, {"x": rows})
    else:
        write_columns(path, dict(zip(columns, rows.T, strict=True)))


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
