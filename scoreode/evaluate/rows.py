"""Rows for a run: those that it was begun on, and those to evaluate, of a file or a named set."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from scoreode.data import flat, named_columns, sources, tables
from scoreode.data.columns import default_names, if_there
from scoreode.data.reading import NUMBERS, Reading
from scoreode.errors import InputError, listing
from scoreode.evaluate import table
from scoreode.model.fitted import Fitted


def columns_of(fitted: Fitted) -> tuple[str, ...]:
    """The columns of a table that a run takes: its own, and what its numbers are conditioned on."""
    return (*fitted.data.columns, *fitted.data.conditions)


def blocks(
    source: str,
    part: str,
    seed: int = 0,
    data_dir: Path | None = None,
    wanted: Sequence[str] = (),
    reading: Reading = NUMBERS,
    within: range | None = None,
    size: int | None = None,
) -> tuple[tuple[str, ...], Iterator[np.ndarray]]:
    """The columns and rows of a file or folder, or of a part of a set that has parts.

    **Arguments:** `wanted`, the columns to read of a table where it has them all by name;
    `reading`, how they become numbers; `within`, the numbers of the rows to read (None: all);
    `size`, the most rows of a block (None: `table.BLOCK`).
    """
    memory, size = _in_memory(source, part, seed, data_dir), size or table.BLOCK
    if memory is None:
        # The first columns of an array that has more are any: their names say nothing.
        first = set(wanted) == set(default_names(len(wanted))) and not tables.has_names(source)
        pick = if_there(wanted, alone=first)
        return tables.blocks(source, part, size, pick, reading, within)
    rows, columns = memory
    first, stop = (0, len(rows)) if within is None else (within.start, within.stop)
    starts = range(first, stop, size)
    return columns, (rows[i : min(i + size, stop)] for i in starts)


def count(source: str, part: str, seed: int = 0, data_dir: Path | None = None) -> int:
    """The number of rows that `blocks` has.

    **Raises:** `InputError` as `blocks` does, and for standard input, which is read once.
    """
    if source == tables.STDIN:
        raise InputError(f"{source}: standard input can be read only once; give a file")
    memory = _in_memory(source, part, seed, data_dir)
    return tables.count(source, part) if memory is None else len(memory[0])


def _in_memory(
    source: str, part: str, seed: int, data_dir: Path | None
) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Images, or the rows of a part of a set, and their columns; None of other tables."""
    named = sources.is_named(source)
    pixels = None if named else sources.pictures(source)
    if pixels is not None:
        return flat(pixels)
    if not named and tables.is_table(source):
        return None
    data = sources.load_data(source, seed, data_dir=data_dir)
    rows = getattr(data, part)
    if len(rows) == 0:
        there = [name for name in tables.PARTS if len(getattr(data, name))]
        raise InputError(f"{source}: has no {part} rows, only {listing(there)}")
    return rows, data.columns


def with_conditions(
    fitted: Fitted, columns: Sequence[str], source: str
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]:
    """What takes the rows of a table apart: into those of a run, and what they are conditioned on.

    **Raises:** `InputError` unless the columns are those of the run: conditions anywhere, and the
    others in order.
    """
    names = fitted.data.conditions
    absent = [name for name in fitted.data.categories if name not in columns]
    if absent:
        raise InputError(
            f"{source}: has no column {listing(absent)}; the run was trained on"
            f" {listing(fitted.data.modelled)}"
        )
    if not names:
        fitted.data.check_columns(columns, source)
        return lambda rows: (rows, None)
    given = named_columns(columns, names, source)
    rest = [i for i in range(len(columns)) if i not in given]
    fitted.data.check_columns([columns[i] for i in rest], source)
    return lambda rows: (rows[:, rest], rows[:, given])
