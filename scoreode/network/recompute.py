"""Recomputation: layers whose gradients keep little and compute the rest again.

Three things decide what is kept.

- Reverse mode takes a checkpoint off the forward pass. Order 3 is reverse over reverse mode, so it
  needs a second checkpoint within the first, for the second reverse pass.
- The first reverse pass may keep the results of convolutions, which cost most of the time. The
  second one keeps only inputs.
- XLA for CPUs drops the barriers of a checkpoint, and then merges what is computed twice. It does
  not merge the branches of a conditional.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive

from scoreode.network.convolution import CONVOLUTION
from scoreode.network.layers import Image


def _is_costly(primitive: Primitive, *_: Any, **__: Any) -> bool:
    return primitive is CONVOLUTION


def recompute(layer: Callable[..., Any], *, keep_convolutions: bool = True) -> Callable[..., Any]:
    """The same function as the layer, with less memory for its gradients.

    **Arguments:** `layer`, an Equinox module or a method of one, which returns arrays;
    `keep_convolutions`: keep their results, for more memory and less time.
    """
    policy = _is_costly if keep_convolutions else None
    light = eqx.filter_checkpoint(eqx.filter_checkpoint(layer), policy=policy)
    if jax.default_backend() != "cpu":
        return light

    def call(h: Image, *others: Any) -> Any:
        weight, *_ = jax.tree.leaves(eqx.filter(layer, eqx.is_inexact_array))
        shapes = eqx.filter_eval_shape(light, h, *others)
        # The compiler cannot know that the weight is finite.
        return lax.cond(
            jnp.isfinite(weight.ravel()[0]),
            lambda: light(h, *others),
            lambda: jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan, a.dtype), shapes),
        )

    return call
