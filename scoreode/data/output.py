"""Writes rows and results to files; the suffix decides the format."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scoreode._files import check_out, replace_whole
from scoreode.data.kinds import NO_KINDS, Category, Date, Kinds
from scoreode.data.tables import SUFFIXES
from scoreode.errors import InputError, listing


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


def check_typed(path: Path, kinds: Kinds) -> None:
    """Raises `InputError` for a format that has numbers only, where there are other kinds."""
    if kinds and path.suffix in (".npy", ".npz"):
        names = listing(list(kinds))
        raise InputError(f"{path}: an array has no place for {names}; use .csv or .parquet")


def write_rows(
    path: Path,
    rows: np.ndarray,
    columns: Sequence[str],
    whole: Sequence[bool] | None = None,
    kinds: Kinds = NO_KINDS,
) -> None:
    """Writes a table (n, d) that `tables.read` can read.

    **Arguments:** `whole`, which columns to write as integers, in formats with column types;
    `kinds`, of the columns that are no numbers; see `by_column`.
    """
    check_typed(path, kinds)
    if path.suffix == ".npz":
        write_columns(path, {"x": rows})
    else:
        array = path.suffix == ".npy"
        by_name = zip(columns, rows.T, strict=True)
        found = dict(by_name) if array else by_column(rows, columns, whole, kinds)
        write_columns(path, found, kinds)


def by_column(
    rows: np.ndarray,
    columns: Sequence[str],
    whole: Sequence[bool] | None = None,
    kinds: Kinds = NO_KINDS,
) -> dict[str, Any]:
    """Rows (n, d) as a dict of columns; those marked `whole` are integers.

    Of those of another kind categories are their levels, and dates are datetime64, or text if they
    were. Columns that lack values are lists with None in their places.
    """
    whole = [False] * len(columns) if whole is None else whole
    found = {}
    for name, column, integers in zip(columns, rows.T, whole, strict=True):
        kind = kinds.get(name)
        if isinstance(kind, Category):
            found[name] = kind.decode(column)
        elif isinstance(kind, Date):
            found[name] = kind.as_text(column) if kind.source == "text" else kind.decode(column)
        elif np.isnan(column).any():
            number = int if integers else float
            found[name] = [None if np.isnan(value) else number(value) for value in column]
        else:
            found[name] = column.astype(np.int64) if integers else column
    return found


def as_frame(columns: Mapping[str, Any], kinds: Kinds, library: str) -> Any:
    """Columns as a DataFrame of "pandas" or "polars", those of other kinds with their types."""
    if library == "pandas":
        return _as_pandas(columns, kinds)
    import polars as pl

    frame = pl.DataFrame(dict(columns), strict=False)
    for name, kind in kinds.items():
        if name not in columns:
            continue
        column = pl.col(name)
        if isinstance(kind, Date) and kind.zone is not None and kind.source != "text":
            utc = column.dt.replace_time_zone("UTC")
            frame = frame.with_columns(utc.dt.convert_time_zone(kind.zone))
        elif isinstance(kind, Category) and kind.source == "category":
            levels = kind.levels[: kind.n_values]
            enum = pl.Enum(list(map(str, levels))) if kind.ordered else pl.Categorical
            texts = all(isinstance(level, str) for level in levels)
            frame = frame.with_columns(column.cast(enum)) if texts else frame
    return frame


def _as_pandas(columns: Mapping[str, Any], kinds: Kinds) -> Any:
    import pandas as pd

    frame = pd.DataFrame(columns)
    for name, kind in kinds.items():
        if name not in columns:
            continue
        if isinstance(kind, Date) and kind.zone is not None and kind.source != "text":
            frame[name] = frame[name].dt.tz_localize("UTC").dt.tz_convert(kind.zone)
        elif isinstance(kind, Date) and kind.source == "date":
            frame[name] = pd.Series([t.item() for t in columns[name]], dtype=object)
        elif isinstance(kind, Category) and kind.source == "category":
            levels = kind.levels[: kind.n_values]
            frame[name] = pd.Categorical(columns[name], levels, ordered=kind.ordered)
    return frame


def whole_columns(bin_width: Any, bin_edge: Any, d: int) -> list[bool]:
    """Which of d columns lie on a grid of whole numbers, by its widths and a value on it."""
    width, edge = (np.broadcast_to(numbers or 0.0, d) for numbers in (bin_width, bin_edge))
    return ((width >= 1) & (width % 1 == 0) & (edge % 1 == 0)).tolist()


def write_columns(path: Path, columns: Mapping[str, Any], kinds: Kinds = NO_KINDS) -> None:
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
            _write_frame(partial, as_frame(columns, kinds, "polars"))


def _write_frame(path: Path, frame: Any) -> None:
    import polars as pl

    try:
        with open(path, "wb") as file:  # polars only accepts paths in UTF-8
            (frame.write_csv if path.suffix == ".csv" else frame.write_parquet)(file)
    except pl.exceptions.PolarsError as error:  # the Parquet writer wraps errors of the system
        raise OSError(str(error)) from error
