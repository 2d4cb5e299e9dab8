"""Rows beyond the range of those that a model was trained on, where it has seen nothing."""

from collections.abc import Callable, Iterator

import numpy as np

from scoreode.data.description import Description
from scoreode.errors import listed

Apart = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


def beyond(known: Description, x: np.ndarray, c: np.ndarray | None = None) -> np.ndarray | None:
    """Which values lie beyond their training range, bool (n, d), or (n, d + k) with conditions.

    **Arguments:** `known`, of the training data. None where it holds no ranges.
    """
    if known.train_range is None:
        return None
    parts = [(x, known.train_range)]
    if c is not None and known.conditions_range is not None:
        parts.append((c, known.conditions_range))
    return np.concatenate([(rows < low) | (rows > high) for rows, (low, high) in parts], axis=1)


class Beyond:
    """Counts the rows that lie beyond the training range in some column, block by block."""

    def __init__(self, known: Description):
        self._known = known
        self._names = np.asarray([*known.columns, *known.conditions], object)
        self._columns = np.zeros(len(self._names), bool)
        self.rows: int | None = None if known.train_range is None else 0

    def add(self, x: np.ndarray, c: np.ndarray | None = None) -> None:
        """Counts these rows, too."""
        found = beyond(self._known, x, c)
        if found is not None and self.rows is not None:
            self.rows += int(found.any(1).sum())
            self._columns |= found.any(0)

    def counted(self, parts: Iterator[np.ndarray], apart: Apart) -> Iterator[np.ndarray]:
        """The same parts; `apart` takes rows from their conditions."""
        for rows in parts:
            self.add(*apart(rows))
            yield rows

    @property
    def columns(self) -> list[str]:
        """The columns in which some row lay beyond."""
        return self._names[self._columns].tolist()

    @property
    def note(self) -> str | None:
        """What to say of them; None where there are none, or none are known."""
        if not self.rows:
            return None
        rows = f"{self.rows} row{'s lie' if self.rows > 1 else ' lies'}"
        return (
            f"{rows} beyond the range of the training rows, in {listed(self.columns)}: tails beyond"
            " the data are the model's guess"
        )
