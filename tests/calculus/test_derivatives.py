"""The derivative record: against closed forms, finite differences, and itself."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import ORDERS, PROBES, mixture, random_field

from scoreode.calculus import Basis, Gaussian, derivatives, divergence
from scoreode.process import VP

pytestmark = pytest.mark.usefixtures("x64")

T = 0.3


@eqx.filter_jit
def record(field, x, probe, n, order):
    probes = probe.draw(jr.key(0), n, x.size, x.dtype)
    return derivatives(field, x, probes, order)


class AtTime(eqx.Module):
    """s(·, T) of a score function."""

    score: eqx.Module

    def __call__(self, x):
        return self.score(x, jnp.asarray(T))


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3, 1)])
def test_closed_form_of_a_field_that_is_no_gradient(shape, n):
    x = jr.normal(jr.key(1), shape)
    field = random_field(x.size)
    found = record(AtTime(field), x, Gaussian(), n, 3)
    A, C, v = np.asarray(field.A), np.asarray(field.C), np.asarray(found.probes.vectors)
    tau = np.tanh(A @ np.asarray(x).ravel() + np.asarray(field.b) + T)
    slope, curvature = 1 - tau**2, -2 * tau * (1 - tau**2)
    np.testing.assert_allclose(found.s, C @ tau, rtol=1e-12)
    np.testing.assert_allclose(found.jvp, (v @ A.T * slope) @ C.T, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(
        found.grad_quadratic, ((v @ C) * (v @ A.T) * curvature) @ A, rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("d", [1, 5])
def test_closed_forms_of_the_oracle(d):
    oracle = mixture(VP(), d)
    x, t = 0.5 * jr.normal(jr.key(2), (d,)), jnp.asarray(T)
    found = record(AtTime(oracle), x, Basis(), 1, 3)
    truth = eqx.filter_jit(lambda q: (q(x, t), q.hessian(x, t), q.grad_trace_hessian(x, t)))(oracle)
    for value, expected in zip(
        (found.s, found.jvp, found.grad_quadratic.sum(0)), truth, strict=True
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-11, atol=1e-11)


def test_finite_differences():
    x = jr.normal(jr.key(3), (3,))
    field = AtTime(random_field(3))
    found = record(field, x, Gaussian(), 2, 3)
    h = 1e-4

    @eqx.filter_jit
    def central(field, x, v):
        return (field(x + h * v) - field(x - h * v)) / (2 * h)

    for v, jvp, gradient in zip(found.probes.vectors, found.jvp, found.grad_quadratic, strict=True):
        np.testing.assert_allclose(jvp, central(field, x, v), rtol=1e-6, atol=1e-6)
        quadratic = lambda x, v=v: v @ jax.jvp(field, (x,), (v,))[1]  # noqa: E731
        differences = [central(quadratic, x, e) for e in jnp.eye(3)]
        np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-5)


def test_orders_agree_where_they_overlap():
    x = jr.normal(jr.key(4), (3, 1))
    field = AtTime(random_field(x.size))
    first, second, third = (record(field, x, Gaussian(), 2, k) for k in ORDERS)
    assert first.jvp is None
    assert second.grad_quadratic is None
    for other in (second, third):
        np.testing.assert_allclose(other.s, first.s, rtol=1e-13)
        np.testing.assert_array_equal(other.probes.vectors, first.probes.vectors)
    np.testing.assert_allclose(second.jvp, third.jvp, rtol=1e-12, atol=1e-14)
    assert third.jvp.shape == third.grad_quadratic.shape == third.probes.vectors.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBES)
def test_divergence_is_the_trace_of_the_jacobian(name):
    x, probe = jr.normal(jr.key(5), (2, 2, 1)), PROBES[name]()
    field = AtTime(random_field(x.size))
    probes = probe.draw(jr.key(6), 3, x.size, x.dtype)
    h, estimates = eqx.filter_jit(divergence)(field, x, probes, probe.exact)
    jacobian = np.asarray(jax.jit(jax.jacobian(field))(x)).reshape(x.size, x.size)
    np.testing.assert_allclose(h, field(x), rtol=1e-13)
    v = np.asarray(probes.vectors)
    each = np.einsum("ki,ij,kj->k", v, jacobian, v)
    expected = [np.trace(jacobian)] if probe.exact else each
    np.testing.assert_allclose(estimates, expected, rtol=1e-11, atol=1e-12)
