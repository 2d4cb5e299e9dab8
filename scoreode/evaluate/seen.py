"""How many rows are among those that a run was trained on, and so tell little of new ones."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from scoreode.data import Dataset, sources, stored
from scoreode.data.beyond import Apart
from scoreode.errors import InputError
from scoreode.model.fitted import Fitted
from scoreode.train.saved import trained_on

_SIGMAS = 3  # beyond what held-out rows coincide by


class Seen:
    """Counts rows that are equal, with what they are conditioned on, to a row of training."""

    def __init__(self, keys: np.ndarray | None, held_out: np.ndarray | None = None):
        """**Arguments:** the `_keys` of the rows of training (None: not known), and of others."""
        self._keys, self._equal, self._n = keys, 0, 0
        others = np.empty(0) if keys is None or held_out is None else np.isin(held_out, keys)
        # Counts and codes coincide by chance: as often as in rows that were held out.
        self._chance = float(np.mean(others)) if len(others) else 0.0
        self._others = max(len(others), 1)

    @classmethod
    def by(cls, fitted: Fitted, source: str, data_dir: Path | None) -> Self:
        """By a run, whose data are read where they were, or from `source` if that is the same."""
        data = _data(fitted, source, data_dir)
        if data is None:
            return cls(None)
        if data.sampler is not None:  # every step has new ones
            return cls(np.empty(0, np.uint64))
        train, parts = np.unique(_keys_of(data, "train")), ("validation", "test")
        if _is_whole(data, source):  # these rows are no coincidence
            return cls(train)
        return cls(train, np.concatenate([_keys_of(data, part) for part in parts]))

    @property
    def count(self) -> int | None:
        """How many of those counted are equal to a row of training; None if that is not known."""
        return None if self._keys is None else self._equal

    def counted(self, parts: Iterator[np.ndarray], apart: Apart) -> Iterator[np.ndarray]:
        """The same parts; `apart` takes rows from their conditions."""
        for rows in parts:
            if self._keys is not None:
                self._equal += int(np.sum(np.isin(_keys(*apart(rows)), self._keys)))
                self._n += len(rows)
            yield rows

    def __str__(self) -> str:
        """What to say of them; nothing where no more coincide than by chance."""
        if self._keys is None or self._n == 0:
            return ""
        variance = self._chance * (1 - self._chance) * (1 / self._n + 1 / self._others)
        if self._equal / self._n <= self._chance + _SIGMAS * variance**0.5:
            return ""
        return (
            f"{self._equal} of {self._n} rows are among those that the run was trained on; give"
            " rows that it has not seen, to know how good it is"
        )


def _data(fitted: Fitted, source: str, data_dir: Path | None) -> Dataset | None:
    """What a run was trained on; None where that is gone, remote, or too large to be read again."""
    known = fitted.data
    width = len(known.columns) + len(known.conditions)
    if 8 * known.n_train * width > stored.LARGE or sources.hub.is_id(known.name):
        return None
    for place in (known, replace(known, name=source, path=None)):
        try:
            return trained_on(fitted.run, place, data_dir)
        except InputError:
            continue
    return None


def _is_whole(data: Dataset, source: str) -> bool:
    """Whether this is the very file or folder that a run was trained on, all parts together."""
    if data.path is None or not os.path.exists(source) or len(data.test) > 0:
        return False
    return os.path.samefile(source, data.path)


def _keys_of(data: Dataset, part: str) -> np.ndarray:
    rows = getattr(data, part)[:]
    return _keys(rows, None if data.conditions is None else getattr(data.conditions, part))


def _keys(rows: np.ndarray, c: np.ndarray | None = None) -> np.ndarray:
    """A number of 64 bits for every row, equal for equal rows and in practice for no others."""
    both = rows if c is None else np.concatenate([rows, c], 1)
    halves = np.ascontiguousarray(both + 0.0, np.float64).view(np.uint32)  # −0 as 0
    odd = np.random.default_rng(0).integers(0, 2**63, halves.shape[1], np.uint64) * 2 + 1
    keys = np.zeros(len(halves), np.uint64)
    for column, factor in zip(halves.T, odd, strict=True):
        keys += column * factor
    return keys
