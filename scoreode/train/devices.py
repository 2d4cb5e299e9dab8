"""Training on all devices of all processes: batches are split, everything else is on every device.

Several processes run the same program. What depends on a clock or on a disk the first decides, and
it alone writes.
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
_BY_HAND = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def connect() -> None:
    """Joins the processes that SLURM, Open MPI or a pod of TPUs started together, or those that
    have JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID set.

    Comes before anything else is computed. **Raises:** `InputError` where nothing is found.
    """
    address, n, i = (os.environ.get(name) for name in _BY_HAND)
    try:
        jax.distributed.initialize(address, int(n) if n else None, int(i) if i else None)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"cannot join other processes ({str(error).splitlines()[0]}); start them by SLURM or"
            f" mpirun, or set {', '.join(_BY_HAND)}"
        ) from error


def check() -> None:
    """Raises `FailureError` where JAX has no device to compute on."""
    try:
        jax.devices()
    except Exception as error:  # some backends fail by an assertion without a word
        asked = os.environ.get("JAX_PLATFORMS")
        what = f"JAX_PLATFORMS={asked}: JAX has no such device" if asked else "JAX has no device"
        reason = str(error).partition("\n")[0]
        raise FailureError(
            f"{what} here{f' ({reason})' if reason else ''}; leave JAX_PLATFORMS unset, or install"
            " JAX for it (https://docs.jax.dev/en/latest/installation.html)"
        ) from error


def is_first() -> bool:
    """Whether this process decides and writes."""
    return jax.process_index() == 0


def all_devices() -> Mesh:
    """Every device of every process, over which rows are split."""
    return jax.make_mesh((jax.device_count(),), ("rows",), (AxisType.Auto,), devices=jax.devices())


def split(rows: Tree, mesh: Mesh) -> Tree:
    """Within a compiled function: an equal part of the rows on every device."""
    if mesh.size == 1:
        return rows
    return jax.lax.with_sharding_constraint(rows, NamedSharding(mesh, PartitionSpec("rows")))


def whole(tree: Tree, mesh: Mesh) -> Tree:
    """Within a compiled function: the arrays whole on every device."""
    if mesh.size == 1:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())
    constrained = lambda a: jax.lax.with_sharding_constraint(a, sharding)  # noqa: E731
    return jax.tree.map(lambda a: constrained(a) if eqx.is_array(a) else a, tree)


def everywhere(tree: Tree, mesh: Mesh) -> Tree:
    """The arrays of this process, which all have alike, on every device."""
    if mesh.size == 1:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())

    def placed(a: Any) -> Any:
        if not isinstance(a, jax.Array):
            return a
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            return jr.wrap_key_data(placed(jr.key_data(a)), impl=jr.key_impl(a))
        return jax.make_array_from_process_local_data(sharding, np.asarray(a))

    return jax.tree.map(placed, tree)


def here(tree: Tree) -> Tree:
    """This process's own copies of arrays that are everywhere, bound to none of its devices."""
    if jax.process_count() == 1:
        return tree
    own = lambda a: jnp.asarray(np.asarray(a.addressable_data(0)))  # noqa: E731
    return jax.tree.map(lambda a: own(a) if isinstance(a, jax.Array) else a, tree)


def agreed(numbers: Sequence[Any]) -> list[Any]:
    """The first process's numbers, in all processes."""
    if jax.process_count() == 1:
        return list(numbers)
    found = multihost_utils.broadcast_one_to_all(np.asarray(numbers, np.float64).view(np.uint32))
    return np.asarray(found).view(np.float64).tolist()
