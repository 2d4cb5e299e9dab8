"""Rows that a run was not trained on: its own data's, or those that the user gives."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoreode import fitting, recipes
from scoreode.data import images
from scoreode.errors import InputError
from scoreode.fitting import Fitted
from scoreode.rows import blocks, check_columns


@dataclass(frozen=True)
class HeldOut:
    """Rows drawn by a seed: all to be shown, those at `evaluated` for their log-density."""

    source: str
    columns: tuple[str, ...]
    rows: np.ndarray
    numbers: np.ndarray
    """Of the rows in their source, from 1."""
    total: int
    evaluated: np.ndarray


class Sources:
    """Held-out rows of one run after another; of equal data the same."""

    def __init__(self, given: str | None, seed: int, data_dir: Path | None):
        self._given, self._seed, self._data_dir = given, seed, data_dir
        self._known: dict[tuple, HeldOut] = {}

    def of(self, fitted: Fitted, evaluated: int, shown: int) -> HeldOut:
        """At most so many rows, evaluated ones among those shown.

        **Raises:** `InputError` where there are none to be had, or they do not fit the run.
        """
        run, name = fitted.run, self._given or fitted.data["name"]
        if self._given is not None or name in recipes.DATA_NAMES:
            # Draws of a toy are always new, and sets of images come split; other sets do not.
            split = self._given is None and name not in (*recipes.TOYS, *images.SETS)
            seed = run.seed if split else self._seed
            key, part = (name, seed), "test"
        else:
            key, part = (name, run.seed, run.validation_fraction, fitted.data["fingerprint"]), None
        if key not in self._known:
            if part is None:
                source, columns, parts = self._not_trained_on(fitted)
            else:
                source = f"test rows of {name}" if name in recipes.DATA_NAMES else name
                columns, parts = blocks(name, part, key[1], self._data_dir)
            self._known[key] = _chosen(source, columns, parts, evaluated, shown, self._seed)
        found = self._known[key]
        check_columns(fitted, found.columns, name)
        return found

    def _not_trained_on(self, fitted: Fitted) -> tuple[str, tuple[str, ...], list[np.ndarray]]:
        """The test rows of a run's own file, or those that chose its weights."""
        run, name = fitted.run, fitted.data["name"]
        data = recipes.load_data(name, run.seed, run.validation_fraction, self._data_dir)
        if fitting.described(data)["fingerprint"] != fitted.data["fingerprint"]:
            raise InputError(f"{name} has changed since the run began")
        if len(data.test):
            return f"test rows of {name}", data.columns, [data.test]
        if len(data.validation):
            return (
                f"validation rows of {name}, which chose the weights",
                data.columns,
                [data.validation],
            )
        raise InputError(f"{name} was trained on whole")


def _chosen(
    source: str,
    columns: tuple[str, ...],
    parts: Iterable[np.ndarray],
    evaluated: int,
    shown: int,
    seed: int,
) -> HeldOut:
    """Rows as likely as any, in their order, of a table that need not fit into memory."""
    rng, most = np.random.default_rng(seed), max(evaluated, shown)
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
    return HeldOut(source, columns, rows[order], numbers[order], total, first)
