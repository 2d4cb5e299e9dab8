"""Rows of a large array, in memory or on the disk, that are read only when they are used."""

from collections.abc import Iterator

import numpy as np

LARGE = 2**31  # bytes; larger arrays are neither copied nor put on the device as a whole
BLOCK = 4096  # rows read at a time


class Stored:
    """Rows of an array in a given order, as a lazy array.

    Indexing with a slice or an array of row numbers reads these rows only.
    """

    def __init__(self, rows: np.ndarray, order: np.ndarray):
        self._rows, self._order = rows, order
        self.dtype: np.dtype = rows.dtype
        self.shape: tuple[int, ...] = (len(order), *rows.shape[1:])

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        numbers = self._order[index]
        # Read in the order on the disk, then restore the requested order.
        order = np.argsort(numbers)
        rows = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        rows[order] = self._rows[numbers[order]]
        return rows

    @property
    def along(self) -> "Stored":
        """The same rows in their order in the array."""
        return Stored(self._rows, np.sort(self._order))

    def take(self, numbers: np.ndarray) -> "Stored":
        """The rows with these numbers, not read yet."""
        return Stored(self._rows, self._order[numbers])


def take(rows: np.ndarray | Stored, numbers: np.ndarray) -> np.ndarray | Stored:
    """The rows with these numbers; those of a large array are not copied."""
    if isinstance(rows, Stored):
        return rows.take(numbers)
    return Stored(rows, numbers) if rows.nbytes > LARGE else rows[numbers]


def blocks(rows: np.ndarray | Stored) -> Iterator[np.ndarray]:
    """Yields all rows in blocks; those of a `Stored` in their order on the disk."""
    ordered = rows.along if isinstance(rows, Stored) else rows
    for start in range(0, len(rows), BLOCK):
        yield ordered[start : start + BLOCK]
