"""Fills a network with the arrays of a file, by their names there."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from scoreode.network.specification import Specification

Layout = Callable[[np.ndarray], np.ndarray]


class Entry(NamedTuple):
    """An array's name in a file, the leaf of ours that it fills, and its values in our layout."""

    name: str
    leaf: Any
    layout: Layout | None = None


def fill(
    spec: Specification,
    d: int,
    name: Callable[[Any], Iterable[Entry]],
    arrays: Mapping[str, np.ndarray],
) -> Any:
    """The network of a specification, for d values, with these arrays in float32.

    **Arguments:** `name`, from the network, without values, to its entries: one for every leaf.

    **Raises:** `ValueError` with the name of an array that is missing, has another shape, or is
    left over.
    """
    net = eqx.filter_eval_shape(lambda key: spec.build((d,), key), jr.key(0))
    filled, left = {}, dict.fromkeys(arrays)
    for path, leaf, layout in name(net):
        if path not in arrays:
            raise ValueError(f"{path} is missing: not the weights of {spec}")
        left.pop(path, None)
        value = arrays[path] if layout is None else layout(arrays[path])
        if value.shape != leaf.shape:
            raise ValueError(f"{path} has shape {value.shape} where {leaf.shape} is expected")
        filled[id(leaf)] = jnp.asarray(value, jnp.float32)
    if left:
        raise ValueError(f"{next(iter(left))} is left over: not the weights of {spec}")
    return jax.tree.map(lambda leaf: filled[id(leaf)], net)
