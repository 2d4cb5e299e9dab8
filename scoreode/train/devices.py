"""Training on all devices of all processes: batches are split, everything else is replicated.

Several processes run the same program. The first process makes all decisions that depend on a clock
or a disk, and only it writes.
"""

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from scoreode.errors import FailureError, InputError

Tree = TypeVar("Tree")
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def connect() -> None:
    """Joins the processes that SLURM, Open MPI or a TPU pod started together.

    Elsewhere, set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in every process.
    Call this before any computation.

    **Raises:** `InputError` if no other processes are found.
    """
    address, n, i = (os.environ.get(name) for name in _VARIABLES)
    try:
        jax.distributed.initialize(address, int(n) if n else None, int(i) if i else None)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"cannot join other processes ({str(error).splitlines()[0]}); start them by SLURM or"
            f" mpirun, or set {', '.join(_VARIABLES)}"
        ) from error


def check() -> None:
    """Raises `FailureError` if JAX has no device."""
    try:
        jax.devices()
    except Exception as error:  # some backends fail with an assertion that has no message
        platforms = os.environ.get("JAX_PLATFORMS")
        problem = "JAX has no device here"
        if platforms:
            problem = f"JAX_PLATFORMS={platforms}: JAX has no such device here"
        reason = str(error).partition("\n")[0]
        raise FailureError(
            f"{problem}{f' ({reason})' if reason else ''}; leave JAX_PLATFORMS unset, or install"
            " JAX for it (https://docs.jax.dev/en/latest/installation.html)"
        ) from error


def is_first() -> bool:
    """Whether this process decides and writes."""
    return jax.process_index() == 0


def all_devices() -> Mesh:
    """A mesh of every device of every process, for splitting rows."""
    return jax.make_mesh((jax.device_count(),), ("rows",), (AxisType.Auto,), devices=jax.devices())


def split(rows: Tree, mesh: Mesh) -> Tree:
    """Splits rows over the devices, within a compiled function, where equal parts are possible."""
    if mesh.size == 1:
        return rows
    sharding = NamedSharding(mesh, PartitionSpec("rows"))
    constrain = lambda a: jax.lax.with_sharding_constraint(a, sharding)  # noqa: E731
    return jax.tree.map(lambda a: a if len(a) % mesh.size else constrain(a), rows)


def whole(tree: Tree, mesh: Mesh) -> Tree:
    """Replicates arrays on every device, within a compiled function."""
    if mesh.size == 1:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())
    constrain = lambda a: jax.lax.with_sharding_constraint(a, sharding)  # noqa: E731
    return jax.tree.map(lambda a: constrain(a) if eqx.is_array(a) else a, tree)


def everywhere(tree: Tree, mesh: Mesh) -> Tree:
    """Copies this process's arrays, equal in all processes, to every device."""
    if mesh.size == 1:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())

    def place(a: Any) -> Any:
        if not isinstance(a, jax.Array):
            return a
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            return jr.wrap_key_data(place(jr.key_data(a)), impl=jr.key_impl(a))
        return jax.make_array_from_process_local_data(sharding, np.asarray(a))

    return jax.tree.map(place, tree)


def here(tree: Tree) -> Tree:
    """This process's copies of replicated arrays, not committed to any device."""
    if jax.process_count() == 1:
        return tree
    local = lambda a: jnp.asarray(np.asarray(a.addressable_data(0)))  # noqa: E731
    return jax.tree.map(lambda a: local(a) if isinstance(a, jax.Array) else a, tree)


def broadcast(numbers: Sequence[Any]) -> list[Any]:
    """The numbers of the first process, in all processes."""
    if jax.process_count() == 1:
        return list(numbers)
    bits = multihost_utils.broadcast_one_to_all(np.asarray(numbers, np.float64).view(np.uint32))
    return np.asarray(bits).view(np.float64).tolist()
