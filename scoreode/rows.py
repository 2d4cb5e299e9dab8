"""Rows for a run: those that it was begun on, and those to evaluate, of a file or a named set."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scoreode import evaluate, recipes
from scoreode.data import Dataset, conditioned, described, divided, flat, sources, tables
from scoreode.data.columns import if_there, unnamed
from scoreode.errors import InputError, listed
from scoreode.fitted import Fitted


def columns_of(fitted: Fitted) -> tuple[str, ...]:
    """The columns of a table that a run takes: its own, and what they are conditioned on."""
    return (*fitted.data["columns"], *fitted.data["conditions"])


def blocks(
    source: str,
    part: str,
    seed: int = 0,
    data_dir: Path | None = None,
    wanted: Sequence[str] = (),
) -> tuple[tuple[str, ...], Iterator[np.ndarray]]:
    """The columns and rows of a file or folder, or of a part of a set that has parts.

    **Arguments:** `wanted`, the columns to read of a table where it has them all by name.
    """
    named = sources.is_named(source)
    pixels = None if named else sources.pictures(source)
    if pixels is not None:
        rows, columns = flat(pixels)
    elif not named and tables.is_table(source):
        # The first columns of an array that has more are any: their names say nothing.
        first = set(wanted) == set(unnamed(len(wanted))) and not tables.has_names(source)
        return tables.blocks(source, part, evaluate.BLOCK, if_there(wanted, alone=first))
    else:
        data = sources.load_data(source, seed, data_dir=data_dir)
        rows, columns = getattr(data, part), data.columns
        if len(rows) == 0:
            there = [name for name in tables.PARTS if len(getattr(data, name))]
            raise InputError(f"{source}: has no {part} rows, only {listed(there)}")
    starts = range(0, len(rows), evaluate.BLOCK)
    return columns, (rows[i : i + evaluate.BLOCK] for i in starts)


def trained_on(
    run: recipes.Run, known: dict[str, Any], data_dir: Path | None, remedy: str = ""
) -> Dataset:
    """The data set that a run was begun on. **Raises:** `InputError` if it is another by now."""
    source = place(known, remedy)
    pick = if_there([*known["columns"], *known["conditions"]])
    data = sources.load_data(source, run.seed, run.validation_fraction, data_dir, pick)
    if known["conditions"]:
        data = conditioned(data, known["conditions"])
    if described(data)["fingerprint"] != known["fingerprint"]:
        raise InputError(f"{source} has changed since the run began{remedy}")
    names = "name", "bin_width", "bin_edge", "chosen_by"
    return replace(data, **{name: _as_given(known[name]) for name in names})


def _as_given(value: Any) -> Any:
    """A number, or one a column, of which JSON makes lists."""
    return tuple(value) if isinstance(value, list) else value


def place(known: dict[str, Any], remedy: str = "") -> str:
    """The name of the set that a run was begun on, or where, from here, its file or folder is.

    **Raises:** `InputError` naming the places where it is not.
    """
    name, path = known["name"], known["path"]
    if sources.is_named(name) or (path is None and not Path(name).suffix):
        return name
    here = os.path.abspath(name)
    places = dict.fromkeys([path or here, here])
    for found in places:
        if os.path.exists(found):
            return name if found == here else found
    looked_at = "" if list(places) == [name] else f" at {' nor at '.join(places)}"
    raise InputError(f"{name}: no such file{looked_at}{remedy}")


def with_conditions(
    fitted: Fitted, columns: Sequence[str], source: str
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]:
    """What takes the rows of a table apart: into those of a run, and what they are conditioned on.

    **Raises:** `InputError` unless the columns are those of the run: conditions anywhere, and the
    others in order.
    """
    names = fitted.data["conditions"]
    if not names:
        check_columns(fitted, columns, source)
        return lambda rows: (rows, None)
    given, rest = divided(columns, names, source)
    check_columns(fitted, [columns[i] for i in rest], source)
    return lambda rows: (rows[:, rest], rows[:, given])


def check_columns(fitted: Fitted, columns: Sequence[str], source: str) -> None:
    """Raises `InputError` unless these are the columns that the run was trained on, in order."""
    trained = fitted.data["columns"]
    if len(columns) != len(trained):
        raise InputError(
            f"{source}: {len(columns)} columns, but the run was trained on {len(trained)}"
            f" ({listed(trained)})"
        )
    nameless = list(unnamed(len(trained)))
    if list(columns) != trained and nameless not in (list(columns), trained):
        raise InputError(
            f"{source}: has the columns {listed(columns)}, but the run was trained on"
            f" {listed(trained)}; name and order them so"
        )
