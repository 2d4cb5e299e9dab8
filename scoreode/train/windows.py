"""Batches from rows that are too many for the device: a window of them at a time.

Steps draw from the rows of a window, as many as they take, which were drawn equally from all; the
next window is read while they run. What it holds depends on the seed and the number of its first
step alone: a run that is taken up again reads what it would have read, and no position is kept.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np

from scoreode._typing import Sampler


@runtime_checkable
class Readable(Protocol):
    """Rows by their numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: np.ndarray) -> np.ndarray: ...


class Windows:
    """Samplers for one chunk of steps after another.

    **Arguments:** `size` of a window in rows; `sampler_of`, what draws from the rows of one.
    """

    def __init__(
        self,
        rows: Readable,
        size: int,
        seed: int,
        sampler_of: Callable[[np.ndarray], Sampler],
    ):
        self._rows, self._size, self._seed = rows, size, seed
        self._sampler_of = sampler_of
        self._reader = ThreadPoolExecutor(1)
        self._ahead: tuple[int, Future] | None = None

    def at(self, step: int) -> Sampler:
        """What draws the batches of a chunk that begins with this step."""
        if self._ahead is None or self._ahead[0] != step:
            self.prepare(step)
        assert self._ahead is not None
        (_, rows), self._ahead = self._ahead, None
        return self._sampler_of(rows.result())

    def prepare(self, step: int) -> None:
        """Begins to read the window of that step."""
        self._ahead = step, self._reader.submit(self._read, step)

    def _read(self, step: int) -> np.ndarray:
        numbers = np.random.default_rng([self._seed, step]).integers(
            len(self._rows), size=self._size
        )
        return self._rows[numbers]
