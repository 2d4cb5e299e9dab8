"""One example's function over many rows, in chunks of one shape, on all devices of this host.

Rows are padded to whole chunks, so that a function is compiled once for any number of rows and a
row's value does not depend on how many others there are. Every device has chunks of its own, and
takes as many solver steps as they need: no device waits for another within a chunk. Processors take
several chunks at a time, as one has too little work for all cores.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

CHUNK = 512


_AT_ONCE = 2**17  # values of rows and tangents: enough for a core, and in its cache's reach


_HIDDEN = 2**19  # values of hidden states and their tangents that stay in a core's caches


_MOST_AT_A_TIME = 8  # chunks: each takes memory of its own


def rows_at_once(size: int, tangents: int, hidden: int = 0) -> int:
    """How many rows of so many values, each with so many tangents, to evaluate together.

    It depends on the machine and on what a row is, never on how many rows there are: a row's last
    bits may change with the shape that it is computed in.

    **Arguments:** `hidden`, the values of a hidden state of the network that evaluates a row, where
    these are far more than the row has, as for images.
    """
    cpu = jax.default_backend() == "cpu"
    budget = _AT_ONCE * (1 if cpu else 32)
    # A network's work grows with a row's size faster than what it reads: few images, many pairs.
    fit = max(budget // max((1 + tangents) * max(size, 64), 16 * size), 8)
    if cpu and hidden:
        fit = min(fit, max(_HIDDEN // ((1 + tangents) * hidden), 1))
    return 2 ** min(fit.bit_length() - 1, 8 if cpu else 13)


@eqx.filter_jit
def _vmapped(function: Callable, shared: tuple[Any, ...], rows: tuple, mesh: Mesh) -> Any:
    arrays, static = eqx.partition((function, shared), eqx.is_array)

    def over_rows(arrays: Any, rows: tuple) -> Any:
        function, shared = eqx.combine(arrays, static)
        return jax.vmap(lambda row: function(*shared, *row))(rows)

    if mesh.size == 1:
        return over_rows(arrays, rows)
    whole, split = PartitionSpec(), PartitionSpec("rows")
    return jax.shard_map(
        over_rows, mesh=mesh, in_specs=(whole, split), out_specs=split, check_vma=False
    )(arrays, rows)


def chunked(
    function: Callable, shared: tuple[Any, ...], rows: tuple[Any, ...], chunk: int = CHUNK
) -> Iterator[tuple[slice, Any]]:
    """Yields (rows done, results as NumPy arrays) for one chunk a device after another.

    **Arguments:** `function(*shared, *row)` for one row; `shared`, what all rows have in common
    (a model, a key); `rows`, arrays of equal length, after the first also None.
    """
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("rows",), (AxisType.Auto,), devices=devices)
    n, chunk = len(rows[0]), chunk * len(devices)
    x64 = jnp.result_type(float) == jnp.float64  # of this thread, and not yet of the others

    def evaluated(start: int) -> tuple[slice, Any]:
        stop = min(start + chunk, n)
        # Repeating a real row, and not zeros, keeps padding from taking more steps than the data.
        index = np.minimum(np.arange(start, start + chunk), n - 1)
        picked = tuple(None if array is None else array[index] for array in rows)
        with jax.enable_x64(x64):
            results = _vmapped(function, shared, picked, mesh)
            return slice(start, stop), jax.tree.map(partial(_first, stop - start), results)

    yield from _in_threads(evaluated, range(0, n, chunk), _at_a_time(mesh))


def _at_a_time(mesh: Mesh) -> int:
    """How many chunks to evaluate beside each other."""
    alone = mesh.size > 1 or jax.default_backend() != "cpu"
    return 1 if alone else min(os.cpu_count() or 1, _MOST_AT_A_TIME)


def _in_threads(
    function: Callable[[int], Any], arguments: Iterable[int], n_threads: int
) -> Iterator[Any]:
    """As `map`, a few arguments ahead."""
    pool, pending = ThreadPoolExecutor(n_threads), deque[Future]()
    try:
        for argument in arguments:
            pending.append(pool.submit(function, argument))
            if len(pending) > n_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _first(count: int, leaf: jax.Array) -> np.ndarray:
    return np.asarray(leaf[:count])


def map_rows(
    function: Callable, shared: tuple[Any, ...], rows: tuple[Any, ...], chunk: int = CHUNK
) -> Any:
    """The results of `chunked` for all rows, concatenated."""
    parts = [result for _, result in chunked(function, shared, rows, chunk)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
