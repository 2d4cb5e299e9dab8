"""Evaluates a function of one example over many rows, in chunks, on all devices of this host.

Rows are padded to whole chunks. A function is therefore compiled once for any number of rows, and
the value of a row does not depend on the number of rows. Its last bits may depend on its place in
the chunk. Each device works on its own chunk and takes only the solver steps that this chunk needs.
A CPU evaluates several chunks at a time, because one chunk does not keep all cores busy.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

CHUNK = 512
LEAST_CHUNK = 64  # the rows of a chunk where only few are left
_AT_ONCE = 2**17  # values of rows and tangents per chunk: they fit into a core's cache
_HIDDEN = 2**19  # values of hidden states and their tangents that fit into a core's caches
_HIDDEN_THERE = 2**26  # and into an accelerator's memory, where some ten such states are alive
_MAX_THREADS = 8  # each chunk in flight takes its own memory


def rows_at_once(size: int, tangents: int, hidden: int = 0) -> int:
    """The number of rows to evaluate together.

    It depends on the machine and on the kind of row, never on the number of rows: the last bits of
    a value may change with the shape of the batch.

    **Arguments:** `size`, the values in a row; `tangents` per row; `hidden`, the values in the
    network's largest hidden state, if they are far more than in a row, as for images.
    """
    cpu = jax.default_backend() == "cpu"
    budget = _AT_ONCE * (1 if cpu else 32)
    # A network's work grows faster than the size of a row: fewer rows if rows are large.
    fit = max(budget // max((1 + tangents) * max(size, 64), 16 * size), 8)
    if hidden:
        room = _HIDDEN if cpu else _HIDDEN_THERE
        fit = min(fit, max(room // ((1 + tangents) * hidden), 1))
    return 2 ** min(fit.bit_length() - 1, 8 if cpu else 13)


@eqx.filter_jit
def _vmap(function: Callable, shared: tuple[Any, ...], rows: tuple, mesh: Mesh) -> Any:
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


def map_chunks(
    function: Callable, shared: tuple[Any, ...], rows: tuple[Any, ...], chunk: int = CHUNK
) -> Iterator[tuple[slice, Any]]:
    """Yields (slice of rows, results as NumPy arrays), each for one chunk per device.

    **Arguments:** `function(*shared, *row)` for one row; `shared`, the arguments that all rows
    share, such as a model or a key; `rows`, arrays of equal length, all but the first may be None;
    `chunk`, rows per device.
    """

    def take(index: np.ndarray) -> tuple:
        return tuple(None if array is None else array[index] for array in rows)

    return map_batches(function, shared, len(rows[0]), take, _on_host, chunk)


def map_batches(
    function: Callable,
    shared: tuple[Any, ...],
    n: int,
    take: Callable[[np.ndarray], tuple],
    give: Callable[[int, Any], Any],
    chunk: int,
) -> Iterator[tuple[slice, Any]]:
    """Yields (slice of n rows, results), like `map_chunks` for rows of any library.

    **Arguments:** `take(index)`, the rows of these numbers as arrays for JAX; `give(count,
    results)`, the first of the results as arrays of that library.
    """
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("rows",), (AxisType.Auto,), devices=devices)
    chunk = chunk * len(devices)
    x64 = jnp.result_type(float) == jnp.float64  # a setting of this thread that others need too

    def evaluate(start: int) -> tuple[slice, Any]:
        stop = min(start + chunk, n)
        # Padding repeats a real row: a row of zeros might take more solver steps than the data.
        index = np.minimum(np.arange(start, start + chunk), n - 1)
        with jax.enable_x64(x64):
            results = _vmap(function, shared, take(index), mesh)
            return slice(start, stop), give(stop - start, results)

    yield from _in_threads(evaluate, range(0, n, chunk), _n_threads(mesh))


def _on_host(count: int, results: Any) -> Any:
    # By NumPy: JAX would compile a slice for every count.
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], results)


def _n_threads(mesh: Mesh) -> int:
    """The number of chunks to evaluate at the same time."""
    single = mesh.size > 1 or jax.default_backend() != "cpu"
    return 1 if single else min(_n_cores(), _MAX_THREADS)


def _n_cores() -> int:
    """The cores that this process may use: of a job in a cluster fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _in_threads(
    function: Callable[[int], Any], arguments: Iterable[int], n_threads: int
) -> Iterator[Any]:
    """Like `map`, but evaluates `n_threads` arguments ahead in threads."""
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


def map_rows(
    function: Callable, shared: tuple[Any, ...], rows: tuple[Any, ...], chunk: int = CHUNK
) -> Any:
    """The results of `map_chunks` for all rows, concatenated."""
    parts = [result for _, result in map_chunks(function, shared, rows, chunk)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
