"""Rows that a run was not trained on: its own data's, or those that the user gives."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoreode.data import Description, Origin, images, sources
from scoreode.errors import InputError
from scoreode.evaluate import table
from scoreode.evaluate.rows import blocks, columns_of, with_conditions
from scoreode.model.config import Run
from scoreode.model.fitted import Fitted
from scoreode.train.source import training_data


@dataclass(frozen=True)
class Options:
    """How a report examines a model; None leaves the choice to what the data are."""

    data: str | None = None
    rows: int | None = None
    samples: int | None = None
    seed: int = 0
    data_dir: Path | None = None
    unasked: tuple[int, int] = (512, 128)
    """Rows where none are asked for: of tables, and of images."""

    def rows_of(self, fitted: Fitted) -> int:
        """How many rows of a run to evaluate, at most."""
        tables, images = self.unasked
        return self.rows or (images if table.has_image_network(fitted) else tables)


@dataclass(frozen=True)
class HeldOut:
    """Rows drawn by a seed: all to be shown, those at `evaluated` for their log-density.

    Of a conditional density both the rows and what they are conditioned on.
    """

    source: str
    columns: tuple[str, ...]
    rows: np.ndarray
    numbers: np.ndarray
    """Of the rows among `numbered`, from 1."""
    numbered: str
    """What the numbers count, such as "rows of data.csv"."""
    files: tuple[str, ...]
    """Of all rows by number, where every one is an image in a file."""
    total: int
    evaluated: np.ndarray
    seed: int
    """Of the evaluation, with which `scoreode nll` reads the same rows and draws the same noise."""

    def apart(self, fitted: Fitted) -> tuple[np.ndarray, np.ndarray | None]:
        """The rows as a run has them, and what they are conditioned on.

        **Raises:** `InputError` unless the columns are those of the run.
        """
        return with_conditions(fitted, self.columns, self.source)(self.rows)


@dataclass(frozen=True)
class _Rows:
    """Rows in blocks, of which the i-th has the number 1 + `origin[i]`, or 1 + i, in `numbered`."""

    name: str
    columns: tuple[str, ...]
    parts: Iterable[np.ndarray]
    numbered: str = ""
    origin: np.ndarray | None = None
    files: tuple[str, ...] = ()


class Sources:
    """Held-out rows of one run after another; of equal data the same."""

    def __init__(self, options: Options):
        self._options = options
        self._known: dict[tuple, HeldOut] = {}

    def of(self, fitted: Fitted, shown: int) -> HeldOut:
        """At most so many rows to be shown, those to be evaluated among them.

        **Raises:** `InputError` where there are none to be had, or they do not fit the run.
        """
        options, run = self._options, fitted.run
        name, seed = options.data or fitted.data.name, evaluation_seed(fitted.data, run, options)
        own = options.data is None and not sources.is_named(name)
        key = (name, seed, *columns_of(fitted))
        if own:
            key += (run.seed, run.validation_fraction, fitted.data.fingerprint)
        if key not in self._known:
            rows = self._own_rows(fitted) if own else self._other_rows(fitted, name, seed)
            self._known[key] = _choose(rows, options.rows_of(fitted), shown, options.seed, seed)
        found = self._known[key]
        with_conditions(fitted, found.columns, name)  # raises, of the source as the user calls it
        return found

    def _own_rows(self, fitted: Fitted) -> _Rows:
        """The test rows of a run's own file, or those that chose its weights."""
        name = fitted.data.name
        if not name:
            raise InputError("a converted model has no rows of its own; give DATA, or --data")
        data = training_data(fitted.run, fitted.data, self._options.data_dir)
        chose = "validation rows of {}, which chose the weights"
        parts = {"test": "test rows of {}", "validation": chose}
        for part, what in parts.items():
            if len(rows := getattr(data, part)):
                given, columns = data.conditions, data.columns
                if given is not None:
                    rows = np.concatenate([rows, getattr(given, part)], axis=1)
                    columns += given.columns
                origin = data.origins.get(part, Origin(np.arange(len(rows)), part))
                counted = _numbering(name, origin.part)
                found = what.format(name), columns, [rows], counted
                return _Rows(*found, origin.numbers, _files(name))
        raise InputError(f"{name} was trained on whole; give other rows")

    def _other_rows(self, fitted: Fitted, name: str, seed: int) -> _Rows:
        """The test part of a set that has parts, or all rows of a file."""
        wanted = columns_of(fitted)
        place = seed, self._options.data_dir
        columns, parts = blocks(name, "test", *place, wanted, fitted.data.reading)
        if sources.is_named(name):
            return _Rows(f"test rows of {name}", columns, parts, _numbering(name, "test"))
        which = " (of its test part, if it has parts)" if Path(name).suffix == ".npz" else ""
        return _Rows(name, columns, parts, f"the rows of {name}{which}", files=_files(name))


def _numbering(name: str, part: str) -> str:
    return f"the rows of the {part} part of {name}" if part else f"the rows of {name}"


def _files(name: str) -> tuple[str, ...]:
    """The names of a folder's images; none of another source."""
    return tuple(f.name for f in images.files(name)) if sources.is_folder(name) else ()


def evaluation_seed(data: Description, run: Run, options: Options) -> int:
    """The run's own where that decides which rows were held out, and else the report's."""
    # Draws of a toy are always new, and sets of images come split.
    whole = data.name == "digits"
    return run.seed if whole and options.data is None else options.seed


def _choose(source: _Rows, evaluated: int, shown: int, choice: int, seed: int) -> HeldOut:
    """Rows as likely as any by the seed `choice`, in their order; not all need fit into memory."""
    rng, most = np.random.default_rng(choice), max(evaluated, shown)
    keys, numbers, rows, total = np.empty(0), np.empty(0, int), None, 0
    for part in source.parts:
        keys = np.concatenate([keys, rng.random(len(part))])
        numbers = np.concatenate([numbers, total + 1 + np.arange(len(part))])
        rows = part if rows is None else np.concatenate([rows, part])
        least = np.argsort(keys)[:most]
        keys, numbers, rows = keys[least], numbers[least], rows[least]
        total += len(part)
    assert rows is not None  # a source without rows is refused where it is read
    order = np.argsort(numbers)
    first = np.sort(np.argsort(keys[order])[:evaluated])
    numbers = numbers[order]
    if source.origin is not None:
        numbers = 1 + source.origin[numbers - 1]
    return HeldOut(
        source.name,
        source.columns,
        rows[order],
        numbers,
        source.numbered,
        source.files,
        total,
        first,
        seed,
    )
