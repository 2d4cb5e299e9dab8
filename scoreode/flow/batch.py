"""One example's function over many rows, in chunks of one shape.

Rows are padded to whole chunks, so that a function is compiled once for any number of rows and a
row's value does not depend on how many others there are.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import numpy as np

CHUNK = 512


@eqx.filter_jit
def _vmapped(function: Callable, shared: tuple, rows: tuple) -> Any:
    return jax.vmap(lambda row: function(*shared, *row))(rows)


def chunked(
    function: Callable, shared: tuple, rows: tuple[Any, ...], chunk: int = CHUNK
) -> Iterator[tuple[slice, Any]]:
    """Yields (rows done, results as NumPy arrays) for one chunk after another.

    **Arguments:** `function(*shared, *row)` for one row; `shared`, what all rows have in common
    (a model, a key); `rows`, arrays of equal length.
    """
    n = len(rows[0])
    for start in range(0, n, chunk):
        stop = min(start + chunk, n)
        # Repeating a real row, and not zeros, keeps padding from taking more steps than the data.
        index = np.minimum(np.arange(start, start + chunk), n - 1)
        results = _vmapped(function, shared, tuple(array[index] for array in rows))
        count = stop - start
        yield slice(start, stop), jax.tree.map(partial(_first, count), results)


def _first(count: int, leaf: jax.Array) -> np.ndarray:
    return np.asarray(leaf[:count])


def map_rows(function: Callable, shared: tuple, rows: tuple[Any, ...], chunk: int = CHUNK) -> Any:
    """The results of `chunked` for all rows, concatenated."""
    parts = [result for _, result in chunked(function, shared, rows, chunk)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
