"""Rows that a run was not trained on: its own data's, or those that the user gives."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scoreode import evaluate, recipes
from scoreode.data import sources
from scoreode.errors import InputError
from scoreode.fitted import Fitted
from scoreode.rows import blocks, trained_on, with_conditions


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
        return self.rows or (images if evaluate.has_image_network(fitted) else tables)


@dataclass(frozen=True)
class HeldOut:
    """Rows drawn by a seed: all to be shown, those at `evaluated` for their log-density.

    Of a conditional density both the rows and what they are conditioned on.
    """

    source: str
    columns: tuple[str, ...]
    rows: np.ndarray
    numbers: np.ndarray
    """Of the rows in their source, from 1."""
    total: int
    evaluated: np.ndarray
    seed: int
    """Of the evaluation, with which `scoreode nll` reads the same rows and draws the same noise."""

    def apart(self, fitted: Fitted) -> tuple[np.ndarray, np.ndarray | None]:
        """The rows as a run has them, and what they are conditioned on.

        **Raises:** `InputError` unless the columns are those of the run.
        """
        return with_conditions(fitted, self.columns, self.source)(self.rows)


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
        name, seed = options.data or fitted.data["name"], evaluation_seed(fitted.data, run, options)
        own = options.data is None and not sources.is_named(name)
        key = (name, seed)
        if own:
            key += (run.seed, run.validation_fraction, fitted.data["fingerprint"])
        if key not in self._known:
            if own:
                source, columns, parts = self._not_trained_on(fitted)
            else:
                source = f"test rows of {name}" if sources.is_named(name) else name
                columns, parts = blocks(name, "test", seed, options.data_dir)
            rows = options.rows_of(fitted)
            self._known[key] = _chosen(source, columns, parts, rows, shown, options.seed, seed)
        found = self._known[key]
        with_conditions(fitted, found.columns, name)  # raises, of the source as the user calls it
        return found

    def _not_trained_on(self, fitted: Fitted) -> tuple[str, tuple[str, ...], list[np.ndarray]]:
        """The test rows of a run's own file, or those that chose its weights."""
        name = fitted.data["name"]
        data = trained_on(fitted.run, fitted.data, self._options.data_dir)
        chose = "validation rows of {}, which chose the weights"
        parts = {"test": "test rows of {}", "validation": chose}
        for part, what in parts.items():
            if len(rows := getattr(data, part)):
                given, columns = data.conditions, data.columns
                if given is not None:
                    rows = np.concatenate([rows, getattr(given, part)], axis=1)
                    columns += given.columns
                return what.format(name), columns, [rows]
        raise InputError(f"{name} was trained on whole; give other rows")


def evaluation_seed(data: dict[str, Any], run: recipes.Run, options: Options) -> int:
    """The run's own where that decides which rows were held out, and else the report's."""
    # Draws of a toy are always new, and sets of images come split.
    whole = data["name"] == "digits"
    return run.seed if whole and options.data is None else options.seed


def _chosen(
    source: str,
    columns: tuple[str, ...],
    parts: Iterable[np.ndarray],
    evaluated: int,
    shown: int,
    choice: int,
    seed: int,
) -> HeldOut:
    """Rows as likely as any by the seed `choice`, in their order; not all need fit into memory."""
    rng, most = np.random.default_rng(choice), max(evaluated, shown)
    keys, numbers, rows, total = np.empty(0), np.empty(0, int), None, 0
    for part in parts:
        keys = np.concatenate([keys, rng.random(len(part))])
        numbers = np.concatenate([numbers, total + 1 + np.arange(len(part))])
        rows = part if rows is None else np.concatenate([rows, part])
        least = np.argsort(keys)[:most]
        keys, numbers, rows = keys[least], numbers[least], rows[least]
        total += len(part)
    assert rows is not None  # a source without rows is refused where it is read
    order = np.argsort(numbers)
    first = np.sort(np.argsort(keys[order])[:evaluated])
    return HeldOut(source, columns, rows[order], numbers[order], total, first, seed)
