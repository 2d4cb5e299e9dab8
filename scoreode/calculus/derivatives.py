"""The derivative record: s, (∇s)v and ∇(vᵀ(∇s)v) at one point, in one sweep.

Objectives of order 1, 2 and 3 read the first, the first two, or all three fields. Forward mode
gives s and (∇s)v together, and reverse mode over that gives the third field with the first two as
by-products. Fields are flattened: what is one vector to the mathematics may be an image to the
network.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoreode._typing import Example, Scalar
from scoreode.calculus.probes import ProbeDraw

AT_ONCE = 64  # tangents

Field = Callable[[Example], Example]


class Derivatives(eqx.Module):
    """Derivatives of a field s at x along k probes v; those above the requested order are None."""

    s: Float[Array, " d"]
    probes: ProbeDraw
    jvp: Float[Array, "k d"] | None
    grad_quadratic: Float[Array, "k d"] | None


def derivatives(field: Field, x: Example, probes: ProbeDraw, order: int) -> Derivatives:
    """s(x); (∇s)v for order ≥ 2; ∇(vᵀ(∇s)v) for order 3; for every probe v.

    **Arguments:** `field`, from an example to its own shape; `x`; `probes` of dimension x.size;
    `order` 1, 2 or 3.

    **Cost** in evaluations of the field, for k probes: 1, 1 + k tangents, or 1 + k tangents and
    one reverse sweep over each.
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

    A single probe skips it: the axis of length one would turn the network's matrix products into
    many small ones under a second `vmap`, at 1.6 times the time of order 3.
    """

    def of_one(vectors: Float[Array, "1 d"], x: Float[Array, " d"]) -> Any:
        result = function(vectors[0], x)
        return jax.tree.map(
            lambda axis, leaf: leaf if axis is None else leaf[None],
            out_axes,
            result,
            is_leaf=lambda axis: axis is None,
        )

    vmapped = jax.vmap(function, (0, None), out_axes)
    return lambda vectors, x: (of_one if len(vectors) == 1 else vmapped)(vectors, x)


def divergence(
    field: Field, x: Example, probes: ProbeDraw, exact: bool
) -> tuple[Example, Float[Array, " estimates"]]:
    """h(x) and estimates of ∇·h: one exact sum over the basis, or one per random probe.

    Estimates are unbiased, and their spread tells their error.

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
