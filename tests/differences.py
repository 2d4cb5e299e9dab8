"""Derivatives of a field against differences."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from scoreode.calculus import Basis, derivatives

_STEP = 1e-4


def assert_derivatives_are_differences(field: Callable, d: int, seed: int) -> None:
    """(∇F) v and ∇(vᵀ(∇F) v), which objectives of order 3 take, at a random point of d values."""
    x, v, u = np.random.default_rng(seed).normal(size=(3, d))

    @eqx.filter_jit
    def found(x):
        draw = Basis().draw(jr.key(0), 1, d, x.dtype)
        draw = eqx.tree_at(lambda draw: draw.vectors, draw, jnp.asarray(v)[None])
        return derivatives(field, x, draw, order=3)

    at = lambda y: found(jnp.asarray(y))  # noqa: E731
    record, h = at(x), _STEP
    slope = (at(x + h * v).s - at(x - h * v).s) / (2 * h)
    np.testing.assert_allclose(record.jvp[0], slope, atol=1e-5)
    quadratic = lambda y: v @ np.asarray(at(y).jvp[0])  # noqa: E731
    slope = (quadratic(x + h * u) - quadratic(x - h * u)) / (2 * h)
    assert record.grad_quadratic[0] @ u == pytest.approx(slope, rel=1e-5)
