"""Rows that stay where they are, on a disk or in a large array, until they are drawn."""

from collections.abc import Iterator

import numpy as np

LARGE = 2**31  # bytes: what is more is neither copied nor put on the device whole
BLOCK = 4096  # rows, of what is read from one end to the other


class Stored:
    """Some rows of an array, in an order of their own, that read like an array of them.

    An index, a slice or an array of numbers, reads these rows and no others.
    """

    def __init__(self, rows: np.ndarray, order: np.ndarray):
        self._rows, self._order = rows, order
        self.dtype: np.dtype = rows.dtype
        self.shape: tuple[int, ...] = (len(order), *rows.shape[1:])

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        numbers = self._order[index]
        # Along the disk, and then in the order that was asked for.
        along = np.argsort(numbers)
        found = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        found[along] = self._rows[numbers[along]]
        return found

    @property
    def along(self) -> "Stored":
        """The same rows in the order in which they lie."""
        return Stored(self._rows, np.sort(self._order))

    def taken(self, numbers: np.ndarray) -> "Stored":
        """Those of these rows that have these numbers, unread."""
        return Stored(self._rows, self._order[numbers])


def taken(rows: np.ndarray | Stored, numbers: np.ndarray) -> np.ndarray | Stored:
    """The rows with these numbers; those of a large array are not copied."""
    if isinstance(rows, Stored):
        return rows.taken(numbers)
    return Stored(rows, numbers) if rows.nbytes > LARGE else rows[numbers]


def blocks(rows: np.ndarray | Stored) -> Iterator[np.ndarray]:
    """All rows, a few at a time; stored ones along the disk."""
    ordered = rows.along if isinstance(rows, Stored) else rows
    for start in range(0, len(rows), BLOCK):
        yield ordered[start : start + BLOCK]
