"""The derivative record: s, (∇s)v and ∇(vᵀ(∇s)v) at one point, in one sweep.

The objective of order k reads the first k of these three. Forward mode gives s and (∇s)v together.
Reverse mode over that gives ∇(vᵀ(∇s)v), with the first two as by-products. All three are flattened
vectors, whatever the shape of x.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoreode._typing import Example, Scalar
from scoreode.calculus.probes import ProbeDraw

AT_ONCE = 64  # tangents evaluated together: bounds the memory of an exact divergence

Field = Callable[[Example], Example]


class Derivatives(eqx.Module):
    """Derivatives of a field s at x along k probes v; None above the requested order."""

    s: Float[Array, " d"]
    probes: ProbeDraw
    jvp: Float[Array, "k d"] | None
    grad_quadratic: Float[Array, "k d"] | None


def derivatives(field: Field, x: Example, probes: ProbeDraw, order: int) -> Derivatives:
    """s(x) and, for every probe v, (∇s)v if order ≥ 2 and ∇(vᵀ(∇s)v) if order = 3.

    **Arguments:** `field`, which maps x to an array of the same shape; `x`; `probes` of dimension
    x.size; `order`, 1, 2 or 3.

    **Cost:** one evaluation of the field; for order 2 also k tangents, for order 3 also a reverse
    sweep over each of the k tangents.
    """

    def flat_field(x: Float[Array, " d"]) -> Float[Array, " d"]:
        return field(x.reshape(shape)).ravel()

    def along(v: Float[Array, " d"], x: Float[Array, " d"]):
        return jax.jvp(flat_field, (x,), (v,))

    def quadratic(v: Float[Array, " d"], x: Float[Array, " d"]):
        s, jvp = along(v, x)
        return jnp.vdot(v, jvp), (s, jvp)

    shape, x = x.shape, x.ravel()
    if order == 1:
        return Derivatives(flat_field(x), probes, None, None)
    if order == 2:
        s, jvp = _over_probes(along, (None, 0))(probes.vectors, x)
        return Derivatives(s, probes, jvp, None)
    grad_quadratic = jax.grad(quadratic, argnums=1, has_aux=True)
    third, (s, jvp) = _over_probes(grad_quadratic, (0, (None, 0)))(probes.vectors, x)
    return Derivatives(s, probes, jvp, third)


def _over_probes(function: Callable, out_axes: Any) -> Callable:
    """`vmap` over the first argument, the probes.

    A single probe does without `vmap`. Under a second `vmap`, over examples, an axis of length one
    would split the network's matrix products into many small ones: 1.6 times the time of order 3.
    """

    def single(vectors: Float[Array, "1 d"], x: Float[Array, " d"]) -> Any:
        result = function(vectors[0], x)
        return jax.tree.map(
            lambda axis, leaf: leaf if axis is None else leaf[None],
            out_axes,
            result,
            is_leaf=lambda axis: axis is None,
        )

    vmapped = jax.vmap(function, (0, None), out_axes)
    return lambda vectors, x: (single if len(vectors) == 1 else vmapped)(vectors, x)


def divergence(
    field: Field, x: Example, probes: ProbeDraw, exact: bool
) -> tuple[Example, Float[Array, " estimates"]]:
    """h(x) and ∇·h at x: the exact divergence, or one unbiased estimate per random probe.

    **Arguments:** `field`, h; `x`; `probes`, k vectors; `exact`: sum over the probes, which are
    then the basis.

    **Returns:** h(x), of the shape of x; the divergence (1,) if exact, else estimates (k,), whose
    spread gives their standard error.

    **Cost:** one evaluation and k tangents of the field, which share one linearisation; memory for
    64 tangents.
    """
    h, pushforward = jax.linearize(field, x)

    def quadratic(v: Float[Array, " d"]) -> Scalar:
        return jnp.vdot(v, pushforward(v.reshape(x.shape)))

    k = len(probes.vectors)
    terms = (
        jax.vmap(quadratic)(probes.vectors)
        if k <= AT_ONCE
        else jax.lax.map(quadratic, probes.vectors, batch_size=AT_ONCE)
    )
    return h, jnp.sum(terms, keepdims=True) if exact else terms
