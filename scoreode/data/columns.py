"""Which columns of a table are read: by name, before anything in the others can be wrong."""

import csv
import io
from collections.abc import Callable, Sequence

from scoreode.errors import InputError, listed, unknown

Pick = Callable[[tuple[str, ...], str], tuple[str, ...]]
"""Of all columns of a source, whose name stands in messages, those that are read, in order."""


def everything(columns: tuple[str, ...], source: str) -> tuple[str, ...]:  # noqa: ARG001
    """Every column."""
    return columns


def only(names: Sequence[str]) -> Pick:
    """These columns. **Raises:** `InputError` for names that are not there, or come twice."""

    def pick(columns: tuple[str, ...], source: str) -> tuple[str, ...]:
        check_named(names, columns, source)
        return tuple(names)

    return pick


def without(names: Sequence[str]) -> Pick:
    """All but these. **Raises:** `InputError` as `only`, and if none is left."""

    def pick(columns: tuple[str, ...], source: str) -> tuple[str, ...]:
        check_named(names, columns, source)
        rest = tuple(name for name in columns if name not in names)
        if not rest:
            raise InputError(f"{source}: every column is dropped; leave one to model")
        return rest

    return pick


def if_there(names: Sequence[str], alone: bool = False) -> Pick:
    """These columns where all are there (`alone`: and no others), and else every column."""

    def pick(columns: tuple[str, ...], source: str) -> tuple[str, ...]:  # noqa: ARG001
        there = bool(names) and set(names) <= set(columns)
        return tuple(names) if there and not (alone and len(names) < len(columns)) else columns

    return pick


def check_named(names: Sequence[str], columns: Sequence[str], source: str) -> None:
    """Raises `InputError` for names that are not among the columns, and for repeated ones."""
    missing = [name for name in names if name not in columns]
    if len(missing) == 1:
        raise InputError(f"{source}: {unknown('column', missing[0], columns)}")
    if missing:
        raise InputError(f"{source}: has no columns {listed(missing)}; it has {listed(columns)}")
    if len(set(names)) < len(names):
        raise InputError(f"{source}: {', '.join(names)}: name every column once")


def unnamed(n: int) -> tuple[str, ...]:
    """What columns are called that have no names."""
    return tuple(f"x{i}" for i in range(n))


def names_in(text: str) -> list[str]:
    """Names separated by commas; one that has a comma stands in quotes, as in a .csv.

    **Raises:** `InputError` where there are none.
    """
    try:
        names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    except csv.Error:
        names = []
    if not any(names):
        raise InputError(f"{text!r}: give names of columns, separated by commas")
    return names


def as_text(names: Sequence[str]) -> str:
    """What `names_in` reads."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return text.getvalue()
