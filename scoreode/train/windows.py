"""Batches from rows that do not fit on the device, by windows of them.

A window is a uniform sample of all rows. The steps of a chunk sample from one window, and the next
window is read while they run. The rows of a window depend only on the seed and the number of its
first step. A resumed run therefore reads the same windows, without a stored position.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np

from scoreode._typing import Sampler


@runtime_checkable
class Readable(Protocol):
    """Rows that can be read by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: np.ndarray) -> np.ndarray: ...


class Windows:
    """The samplers of successive chunks of steps.

    **Arguments:** `rows`; `size` of a window in rows; `seed`; `sampler_of`, which turns the rows of
    a window into a sampler.
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
        """The sampler of the chunk that starts with this step."""
        if self._ahead is None or self._ahead[0] != step:
            self.prepare(step)
        assert self._ahead is not None
        (_, rows), self._ahead = self._ahead, None
        return self._sampler_of(rows.result())

    def prepare(self, step: int) -> None:
        """Starts to read the window of the chunk that starts with this step."""
        self._ahead = step, self._reader.submit(self._read, step)

    def _read(self, step: int) -> np.ndarray:
        numbers = np.random.default_rng([self._seed, step]).integers(
            len(self._rows), size=self._size
        )
        return self._rows[numbers]
