"""Detects rows outside the range of the training rows, where a model only extrapolates."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from scoreode.data.description import Description
from scoreode.data.domains import circles
from scoreode.errors import listing

Apart = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


def beyond(known: Description, x: np.ndarray, c: np.ndarray | None = None) -> np.ndarray | None:
    """Which values lie outside their training range.

    **Arguments:** `known`, of the training data; rows `x` (n, d); conditions `c` (n, k).

    **Returns:** bool (n, d), or (n, d + k) with conditions; None if `known` has no ranges.
    """
    if known.train_range is None:
        return None
    parts = [(x, known.train_range)]
    if c is not None and known.conditions_range is not None:
        parts.append((c, known.conditions_range))
    found = np.concatenate([(rows < low) | (rows > high) for rows, (low, high) in parts], axis=1)
    if known.support:  # an angle has no range
        found[:, : len(known.columns)] &= ~circles(known.columns, known.support)
    return found


class Beyond:
    """Counts rows outside the training range in at least one column, block by block."""

    def __init__(self, known: Description):
        self._known = known
        self._names = np.asarray([*known.columns, *known.conditions], object)
        self._columns = np.zeros(len(self._names), bool)
        self.rows: int | None = None if known.train_range is None else 0

    def add(self, x: np.ndarray, c: np.ndarray | None = None) -> None:
        """Adds these rows to the count."""
        outside = beyond(self._known, x, c)
        if outside is not None and self.rows is not None:
            self.rows += int(outside.any(1).sum())
            self._columns |= outside.any(0)

    def add_counts(self, rows: int | None, columns: Sequence[str]) -> None:
        """Adds what was counted of other rows."""
        self.rows = None if rows is None or self.rows is None else self.rows + rows
        self._columns |= np.isin(self._names, list(columns))

    def watch(self, parts: Iterator[np.ndarray], apart: Apart) -> Iterator[np.ndarray]:
        """Yields the same parts and counts them; `apart` separates rows and conditions."""
        for rows in parts:
            self.add(*apart(rows))
            yield rows

    @property
    def columns(self) -> list[str]:
        """The columns in which a row was outside the range."""
        return self._names[self._columns].tolist()

    @property
    def note(self) -> str | None:
        """A note for the user; None if there are no such rows or the ranges are unknown."""
        if not self.rows:
            return None
        rows = f"{self.rows} row{'s lie' if self.rows > 1 else ' lies'}"
        return (
            f"{rows} beyond the range of the training rows, in {listing(self.columns)}: tails"
            " beyond the data are the model's guess"
        )
