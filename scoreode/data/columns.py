"""Selects the columns of a table by name before they are read, so that others cannot fail."""

import csv
import io
from collections.abc import Callable, Sequence

from scoreode.errors import InputError, listing, unknown

Pick = Callable[[tuple[str, ...], str], tuple[str, ...]]
"""Maps a source's columns and its name, for messages, to the columns to read, in order."""


def everything(columns: tuple[str, ...], source: str) -> tuple[str, ...]:  # noqa: ARG001
    """Every column."""
    return columns


def only(names: Sequence[str]) -> Pick:
    """These columns. **Raises:** `InputError` for missing or repeated names."""

    def pick(columns: tuple[str, ...], source: str) -> tuple[str, ...]:
        check_named(names, columns, source)
        return tuple(names)

    return pick


def without(names: Sequence[str]) -> Pick:
    """All other columns. **Raises:** `InputError` as `only` does, and if no column is left."""

    def pick(columns: tuple[str, ...], source: str) -> tuple[str, ...]:
        check_named(names, columns, source)
        rest = tuple(name for name in columns if name not in names)
        if not rest:
            raise InputError(f"{source}: every column is dropped; leave one to model")
        return rest

    return pick


def if_there(names: Sequence[str], alone: bool = False) -> Pick:
    """These columns if the table has all of them (`alone`: and no others), else every column."""

    def pick(columns: tuple[str, ...], source: str) -> tuple[str, ...]:  # noqa: ARG001
        complete = bool(names) and set(names) <= set(columns)
        return tuple(names) if complete and not (alone and len(names) < len(columns)) else columns

    return pick


def check_named(names: Sequence[str], columns: Sequence[str], source: str) -> None:
    """Raises `InputError` for names that the columns do not have, and for repeated names."""
    missing = [name for name in names if name not in columns]
    if len(missing) == 1:
        raise InputError(f"{source}: {unknown('column', missing[0], columns)}")
    if missing:
        raise InputError(f"{source}: has no columns {listing(missing)}; it has {listing(columns)}")
    if len(set(names)) < len(names):
        raise InputError(f"{source}: {', '.join(names)}: name every column once")


def default_names(n: int) -> tuple[str, ...]:
    """Default names for n columns."""
    return tuple(f"x{i}" for i in range(n))


def names_in(text: str) -> list[str]:
    """Splits names separated by commas; a name with a comma is in quotes, as in a .csv.

    **Raises:** `InputError` if there are none.
    """
    try:
        names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    except csv.Error:
        names = []
    if not any(names):
        raise InputError(f"{text!r}: give names of columns, separated by commas")
    return names


def as_text(names: Sequence[str]) -> str:
    """The text from which `names_in` reads these names."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return text.getvalue()
