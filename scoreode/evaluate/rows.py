"""Rows for a run: those that it was begun on, and those to evaluate, of a file or a named set."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from scoreode.data import flat, named_columns, sources, tables
from scoreode.data.columns import default_names, if_there
from scoreode.data.reading import NUMBERS, Reading
from scoreode.errors import InputError, listing
from scoreode.evaluate import table
from scoreode.model.fitted import Fitted, check_columns


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
) -> tuple[tuple[str, ...], Iterator[np.ndarray]]:
    """The columns and rows of a file or folder, or of a part of a set that has parts.

    **Arguments:** `wanted`, the columns to read of a table where it has them all by name;
    `reading`, how they become numbers.
    """
    named = sources.is_named(source)
    pixels = None if named else sources.pictures(source)
    if pixels is not None:
        rows, columns = flat(pixels)
    elif not named and tables.is_table(source):
        # The first columns of an array that has more are any: their names say nothing.
        first = set(wanted) == set(default_names(len(wanted))) and not tables.has_names(source)
        return tables.blocks(source, part, table.BLOCK, if_there(wanted, alone=first), reading)
    else:
        data = sources.load_data(source, seed, data_dir=data_dir)
        rows, columns = getattr(data, part), data.columns
        if len(rows) == 0:
            there = [name for name in tables.PARTS if len(getattr(data, name))]
            raise InputError(f"{source}: has no {part} rows, only {listing(there)}")
    starts = range(0, len(rows), table.BLOCK)
    return columns, (rows[i : i + table.BLOCK] for i in starts)


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
        check_columns(fitted, columns, source)
        return lambda rows: (rows, None)
    given = named_columns(columns, names, source)
    rest = [i for i in range(len(columns)) if i not in given]
    check_columns(fitted, [columns[i] for i in rest], source)
    return lambda rows: (rows[:, rest], rows[:, given])
