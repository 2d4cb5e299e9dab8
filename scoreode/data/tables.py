"""Tables from files, folders of .parquet parts, and standard input, checked row by row.

A file holds one table, or (.npz) the arrays x_train, x_val and x_test of a published split.
Nothing is unpickled. Errors name the file, the columns and the rows.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.data import stored, text
from scoreode.data.columns import Pick, default_names, everything
from scoreode.data.formats import FRAMES, TEXTS, Content
from scoreode.data.frames import from_frame, numeric_rows, read_frame
from scoreode.data.kinds import NO_KINDS, Kinds
from scoreode.data.reading import NUMBERS, Reading
from scoreode.errors import InputError, listing

SUFFIXES = (".csv", ".parquet", ".npy", ".npz")  # formats that can also be written
READ = (*FRAMES, ".npy", ".npz")
STDIN = "-"
STDIN_NAME = "<stdin>"
PARTS = {"train": "x_train", "validation": "x_val", "test": "x_test"}


@dataclass(frozen=True)
class _Source:
    """A table's source: its name in messages, its kind, and the file, the parts or the text."""

    name: str
    kind: str
    content: Content


def kind_of(path: str | os.PathLike[str]) -> str:
    """The suffix of a file in lower case; both suffixes of a .gz, such as ".csv.gz"."""
    first, last = ["", "", *Path(path).suffixes][-2:]
    return (first + last if last.lower() == ".gz" else last).lower()


def parts_of(path: str | os.PathLike[str]) -> list[Path]:
    """The .parquet files of a folder, sorted by name."""
    return sorted(Path(path).glob("*.parquet")) if os.path.isdir(path) else []


def is_parts(path: str | os.PathLike[str]) -> bool:
    """Whether it is a folder with a table in .parquet parts."""
    return bool(parts_of(path))


def is_table(source: str) -> bool:
    """Whether it is standard input, a file, a name with a suffix, or a folder of parts."""
    named = source == STDIN or bool(Path(source).suffix)
    return named or is_parts(source) or (os.path.exists(source) and not os.path.isdir(source))


def has_names(source: str) -> bool:
    """Whether the source has column names, as all kinds but arrays have."""
    return kind_of(source) not in (".npy", ".npz")


def read(
    path: str | os.PathLike[str], pick: Pick = everything
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The table in a file, and its column names.

    **Arguments:** `path`; `pick`, which selects the columns to read.

    **Returns:** {"all": rows} or {"train": …, "validation": …, "test": …}, and the columns. Rows
    are float64 (n, d), finite, with n ≥ 1. Rows of a large .npy stay on the disk, with their dtype.

    **Raises:** `InputError` for a missing, empty or damaged file, an unknown suffix, a .csv without
    a header, text in a numeric column, missing or infinite values.
    """
    return read_kinds(path, pick, NUMBERS)[:2]


def read_kinds(
    path: str | os.PathLike[str], pick: Pick, reading: Reading
) -> tuple[dict[str, np.ndarray], tuple[str, ...], Kinds]:
    """What `read` returns, and the kinds of the columns that are no numbers in the file.

    **Raises:** `InputError` as `read` does, and as `Reading` does.
    """
    source = _source(path)
    if source.kind in (".npy", ".npz"):
        _check_array(source, reading)
        return *_read_numpy(source, pick, reading), {}
    frame, columns = _scan(source, pick, reading)
    with _readable(source):
        frame = frame.collect()
    rows, _, kinds = read_frame(frame, source.name, reading)
    return {"all": rows}, columns, kinds


def blocks(
    path: str | os.PathLike[str],
    part: str,
    size: int,
    pick: Pick = everything,
    reading: Reading = NUMBERS,
    within: range | None = None,
) -> tuple[tuple[str, ...], Iterator[np.ndarray]]:
    """The columns of a file, and its rows in blocks of at most `size`, checked as by `read`.

    A .csv, .parquet or .npy file is never in memory as a whole. `part` selects the part of an .npz
    with several. `reading`, as in training. `within` are the numbers of the rows that are asked
    for, of those that `count` counts (None: all).

    **Raises:** `InputError` as `read` does; for a bad row when its block is read.
    """
    source = _source(path)
    if source.kind in (".npy", ".npz"):
        _check_array(source, reading)
        return _numpy_blocks(source, part, size, pick, reading, within)
    frame, columns = _scan(source, pick, reading)
    if within is None:
        return columns, _frame_blocks(frame, source, size, reading)
    if not within:
        return columns, iter(())
    frame = _slice(frame, source, within)
    return columns, _frame_blocks(frame, source, size, reading, within.start)


def count(path: str | os.PathLike[str], part: str) -> int:
    """The number of rows that `blocks` has. Of .parquet only the ends of the files are read."""
    source = _source(path)
    if source.kind in (".npy", ".npz"):
        return len(_rows_of(_arrays(source, everything)[0], part, source.name))
    return _length(_scan(source, everything, Reading(NO_KINDS))[0], source)


def parts_by_row(path: str | os.PathLike[str]) -> list[tuple[Path, range]]:
    """The .parquet files of a folder, each with the numbers of its rows."""
    found, first = [], 0
    for part in parts_of(path):
        found.append((part, range(first, first + count(part, ""))))
        first = found[-1][1].stop
    return found


def parts_within(parts: list[tuple[Path, range]], within: range) -> list[tuple[Path, range]]:
    """Those that hold some of these rows."""
    return [(p, r) for p, r in parts if r and r.start < within.stop and within.start < r.stop]


def _check_array(source: _Source, reading: Reading) -> None:
    """Raises `InputError` for an array where there have to be categories."""
    names = [*(reading.known or {}), *reading.categories]
    if names:
        raise InputError(
            f"{source.name}: an array has numbers only, and {listing(names)}"
            f" {'are none' if len(names) > 1 else 'is none'}; give a .csv or .parquet"
        )


def _rows_of(parts: dict[str, np.ndarray], part: str, source: str) -> np.ndarray:
    """The rows of a part, or all of a file without parts."""
    rows = parts.get(part, parts.get("all"))
    if rows is None or len(rows) == 0:
        raise InputError(f"{source}: has no {part} rows")
    return rows


def _numpy_blocks(
    source: _Source, part: str, size: int, pick: Pick, reading: Reading, within: range | None
) -> tuple[tuple[str, ...], Iterator[np.ndarray]]:
    (parts, columns), name = _arrays(source, pick), source.name
    rows = _rows_of(parts, part, name)
    first, stop = (0, len(rows)) if within is None else (within.start, within.stop)
    slices = ((i, rows[i : min(i + size, stop)]) for i in range(first, stop, size))
    checked = (numeric_rows(block, columns, name, i, reading.gaps) for i, block in slices)
    return columns, checked


def _length(frame: Any, source: _Source) -> int:
    """The number of rows of a LazyFrame."""
    import polars as pl

    with _readable(source):
        return frame.select(pl.len()).collect().item()


def _slice(frame: Any, source: _Source, within: range) -> Any:
    """These rows of a LazyFrame; of a table in parts, only the parts that hold some are read."""
    first = within.start
    if isinstance(source.content, list):
        parts = parts_within(parts_by_row(source.name), within)
        schema = frame.collect_schema()  # that of all parts
        frame = FRAMES[source.kind]([part for part, _ in parts], source.name)
        frame = frame.select(schema.names()).cast(dict(schema))
        first -= parts[0][1].start
    return frame.slice(first, len(within))


def _frame_blocks(
    frame: Any, source: _Source, size: int, reading: Reading, first_row: int = 0
) -> Iterator[np.ndarray]:
    kinds = reading.known or NO_KINDS
    with _readable(source):
        for batch in frame.collect_batches(chunk_size=size):
            for block in batch.iter_slices(size):
                yield from_frame(block, source.name, first_row, kinds, gaps=reading.gaps)[0]
                first_row += len(block)
    if not first_row:
        raise InputError(f"{source.name}: no rows below the header")


def _source(path: str | os.PathLike[str]) -> _Source:
    name = str(path)
    if name == STDIN:
        content = sys.stdin.buffer.read()
        if not content:
            raise InputError("standard input is empty; give the rows in the format of a .csv")
        return _Source(STDIN_NAME, ".csv", content)
    path, kind = Path(path), kind_of(path)
    if is_parts(path):
        return _Source(name, ".parquet", parts_of(path))
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(
                f"{path}: is a pipe or device, not a file; give {STDIN} for rows on standard input"
            )
        if kind not in READ:
            raise InputError(f"{path}: unknown kind of file; use {', '.join(READ)}")
        if path.is_dir():
            raise InputError(f"{path}: no such file, but a folder")
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return _Source(name, kind, path)


@contextmanager
def _readable(source: _Source) -> Iterator[None]:
    import polars as pl

    try:
        yield
    except InputError:
        raise
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if "utf-8" in reason and not isinstance(source.content, list):
            reason = text.not_utf8(source.content)
        raise InputError(f"{source.name}: cannot be read: {reason}") from error


def _scan(source: _Source, pick: Pick, reading: Reading) -> tuple[Any, tuple[str, ...]]:
    """A polars LazyFrame of the selected columns, and their names."""
    as_text = {"as_text": reading.as_text} if source.kind in TEXTS else {}
    with _readable(source):
        frame = FRAMES[source.kind](source.content, source.name, **as_text)
        columns = tuple(frame.collect_schema())
    selected = pick(columns, source.name)
    return frame if selected == columns else frame.select(selected), selected


def _read_numpy(
    source: _Source, pick: Pick, reading: Reading
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    (parts, columns), name = _arrays(source, pick), source.name
    sources = {part: f"{name}[{key}]" for part, key in PARTS.items()} | {"all": name}
    if source.kind == ".npy" and parts["all"].nbytes > stored.LARGE:
        for i in range(0, len(parts["all"]), stored.BLOCK):
            numeric_rows(parts["all"][i : i + stored.BLOCK], columns, name, i)
        return parts, columns
    return {
        part: numeric_rows(rows, columns, sources[part], gaps=reading.gaps)
        for part, rows in parts.items()
    }, columns


def _arrays(source: _Source, pick: Pick) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The unchecked parts of a file, with the selected columns; a .npy stays on the disk."""
    arrays, name = _load(source), source.name
    if "x_train" in arrays:
        parts = {part: arrays[key] for part, key in PARTS.items() if key in arrays}
    elif len(arrays) == 1:
        parts = {"all": next(iter(arrays.values()))}
    else:
        raise InputError(
            f"{name}: holds {', '.join(arrays) or 'nothing'}; give one array, or x_train with"
            " x_val and x_test"
        )
    first = next(iter(parts.values()))
    columns = default_names(first.shape[1] if first.ndim > 1 else 1)
    selection = pick(columns, name)
    # Parts with different shapes are refused later, when they are checked.
    equal_shapes = all(rows.shape[1:] == (len(columns),) for rows in parts.values())
    if selection == columns or not equal_shapes:
        return parts, columns
    numbers = [columns.index(column) for column in selection]
    return {part: rows[:, numbers] for part, rows in parts.items()}, selection


def _load(source: _Source) -> dict[str, np.ndarray]:
    """The arrays in a file, by name. **Raises:** `InputError` for anything else."""
    name, path = source.name, source.content
    assert isinstance(path, Path)
    try:
        if source.kind == ".npy":
            arrays = {"all": np.load(path, mmap_mode="r", allow_pickle=False)}
        else:
            with open(path, "rb") as file:
                content = np.load(file, allow_pickle=False)
                arrays = {"all": content} if isinstance(content, np.ndarray) else dict(content)
    except Exception as error:  # damage causes many kinds of errors in zip, zlib and NumPy
        objects = "it holds objects, which are not unpickled, or is of another format"
        reason = objects if "pickle" in str(error) else error
        raise InputError(f"{name}: cannot be read: {reason}") from error
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        kind, function = ("an archive", "save") if source.kind == ".npy" else ("files", "savez")
        raise InputError(
            f"{name}: cannot be read: it holds {kind} and no arrays; write it with numpy.{function}"
        )
    return arrays
