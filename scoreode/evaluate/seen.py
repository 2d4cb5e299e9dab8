"""Counts the rows of a data set that are training rows of a run; their NLL is too optimistic."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from scoreode.data import Dataset, sources, stored, tables
from scoreode.data.beyond import Apart
from scoreode.data.hashes import hash_rows
from scoreode.errors import InputError
from scoreode.model.fitted import Fitted
from scoreode.train.source import training_data

_SIGMAS = 3  # standard errors above the chance level from which matches are reported


class Seen:
    """Counts rows that equal a training row, including their conditions."""

    def __init__(self, keys: np.ndarray | None, held_out: np.ndarray | None = None):
        """**Arguments:** `_keys` of the training rows (None: unknown), and of held-out rows."""
        self._keys, self._equal, self._n = keys, 0, 0
        matches = np.empty(0) if keys is None or held_out is None else np.isin(held_out, keys)
        # Rows of counts and codes match by chance. Held-out rows tell how often.
        self._chance = float(np.mean(matches)) if len(matches) else 0.0
        self._n_held_out = max(len(matches), 1)

    @classmethod
    def by(cls, fitted: Fitted, source: str, data_dir: Path | None) -> Self:
        """For a run; its data are read from their path, or from `source` if that has the same."""
        data = _data(fitted, source, data_dir)
        if data is None:
            return cls(None)
        if data.sampler is not None:  # every step has new rows
            return cls(np.empty(0, np.uint64))
        train, parts = np.unique(_keys_of(data, "train")), ("validation", "test")
        if _is_whole(data, source):  # matches are not by chance
            return cls(train)
        return cls(train, np.concatenate([_keys_of(data, part) for part in parts]))

    @property
    def count(self) -> int | None:
        """The number of rows that equal a training row; None if these are unknown."""
        return None if self._keys is None else self._equal

    @property
    def tally(self) -> tuple[int, int] | None:
        """How many rows equal a training row, and how many were watched; None if unknown."""
        return None if self._keys is None else (self._equal, self._n)

    def add(self, tally: Sequence[int] | None) -> None:
        """Adds the tally of other rows."""
        if tally is None:
            self._keys = None
        else:
            self._equal, self._n = self._equal + tally[0], self._n + tally[1]

    def watch(self, parts: Iterator[np.ndarray], apart: Apart) -> Iterator[np.ndarray]:
        """Yields the same parts and counts them; `apart` separates rows and conditions."""
        for rows in parts:
            if self._keys is not None:
                self._equal += int(np.sum(np.isin(_keys(*apart(rows)), self._keys)))
                self._n += len(rows)
            yield rows

    def __str__(self) -> str:
        """A message for the user; empty if rows match no more often than by chance."""
        if self._keys is None or self._n == 0:
            return ""
        variance = self._chance * (1 - self._chance) * (1 / self._n + 1 / self._n_held_out)
        if self._equal / self._n <= self._chance + _SIGMAS * variance**0.5:
            return ""
        return (
            f"{self._equal} of {self._n} rows are among those that the run was trained on; use new"
            " rows to judge the model"
        )


def _data(fitted: Fitted, source: str, data_dir: Path | None) -> Dataset | None:
    """The data of a run; None if they are missing, remote, or too large to be read again."""
    record = fitted.data
    width = len(record.columns) + len(record.conditions)
    if 8 * record.n_train * width > stored.LARGE or sources.hub.is_id(record.name):
        return None
    for location in (record, replace(record, name=source, path=None)):
        if location.name == tables.STDIN:  # read once, by what evaluates its rows
            continue
        try:
            return training_data(fitted.run, location, data_dir)
        except InputError:
            continue
    return None


def _is_whole(data: Dataset, source: str) -> bool:
    """Whether `source` is the file or folder from which the run took all its parts."""
    if data.path is None or not os.path.exists(source) or len(data.test) > 0:
        return False
    return os.path.samefile(source, data.path)


def _keys_of(data: Dataset, part: str) -> np.ndarray:
    rows = getattr(data, part)[:]
    return _keys(rows, None if data.conditions is None else getattr(data.conditions, part))


def _keys(rows: np.ndarray, c: np.ndarray | None = None) -> np.ndarray:
    """A hash of every row with its conditions."""
    return hash_rows(rows if c is None else np.concatenate([rows, c], 1))
