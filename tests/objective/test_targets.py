"""Targets and noise: the gradient's expectation is kept, and the closed form reached."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import random_field
from hypothesis import given
from hypothesis import strategies as st
from standard_errors import assert_mean, z_scores

from scoreode._typing import Pairs, Referenced
from scoreode.calculus import Basis, ProbeDraw, Rademacher
from scoreode.objective import Antithetic, DenoisingScoreMatching, Draw, Independent, PosteriorMean
from scoreode.objective import targets as module
from scoreode.objective.targets import Diffused, Reference
from scoreode.objective.weighting import UniformTime
from scoreode.process import VE, VP

D = 2
ROWS = np.array([[-1.0, 0.2], [0.3, 1.1], [0.9, -0.6], [-0.2, -0.7], [1.2, 0.8]])
SIGMAS = (0.3, 0.8, 2.0)


class Along(eqx.Module):
    """A direction in the space of scores: gradients in `size` are linear in the target."""

    size: jax.Array

    def __call__(self, x, t):
        return random_field(D)(x, t) + self.size * random_field(D, 1)(x, t)


def time_of(process, sigma):
    """When a process with α = 1 has this σ."""
    return process.t_of_log_snr(jnp.asarray(-2 * np.log(sigma)))


def slope_of(term, process, order, probe):
    """d term / d size at one draw: of a row, its reference rows, noise and probes."""

    def slope(targets, rows, eps, t, key):
        objective = DenoisingScoreMatching(process, order, probe=probe, targets=targets)

        def value(size):
            reference = Reference(rows[1:])
            found = objective.terms(Along(size), rows[0], eps, t, key, order, reference)
            return getattr(found, term)

        return jax.grad(value)(jnp.zeros(()))

    return slope


def draws(key, n, size, weights=None):
    """n times: `size` rows drawn with replacement, of which the first is diffused."""
    index = jr.choice(key, len(ROWS), (n, size), p=weights)
    return jnp.asarray(ROWS)[index]


def paired(slope, t, weights=None, n=40_000, size=6):
    """Slopes by the posterior minus slopes by the draw, for the same rows, noise and probes."""
    keys = jr.split(jr.key(3), 3)
    rows, eps = draws(keys[0], n, size, weights), jr.normal(keys[1], (n, D))

    @jax.jit
    @jax.vmap
    def difference(rows, eps, key):
        by_mean, by_draw = (slope(how, rows, eps, t, key) for how in (PosteriorMean(), Draw()))
        return by_mean - by_draw

    return np.asarray(difference(rows, eps, jr.split(keys[2], n)))


TERMS = (("first", 1), ("second", 2), ("second_trace", 2), ("third", 3))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("probe", [Basis(), Rademacher()], ids=["exact", "probed"])
@pytest.mark.parametrize("weights", [None, np.array([0.4, 0.1, 0.2, 0.25, 0.05])])
@pytest.mark.parametrize(("term", "order"), TERMS)
def test_the_gradient_has_the_expectation_of_a_draws(term, order, weights, probe):
    process = VE(0.01, 10.0)
    slope = slope_of(term, process, order, probe)
    for sigma in SIGMAS:
        assert_mean(paired(slope, time_of(process, sigma), weights), 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("term", "order"), TERMS)
def test_without_the_own_row_it_has_another(term, order, monkeypatch):
    """What the test above can see: rows that x_t was not diffused from give wrong gradients."""
    weights = module._weights

    def without_own(*arguments):
        w, own = weights(*arguments)
        return w, 0 * own

    monkeypatch.setattr(module, "_weights", without_own)
    process = VE(0.01, 10.0)
    t = time_of(process, 0.3)
    difference = paired(slope_of(term, process, order, Basis()), t)
    assert np.abs(z_scores(difference)) > 8


def log_density(x_t, rows, alpha, sigma):
    """log Σ_j N(x_t; α x_j, σ² I) up to a constant."""
    return jax.nn.logsumexp(-0.5 * jnp.sum((x_t - alpha * rows) ** 2, 1) / sigma**2)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0, 5.0])
def test_over_all_rows_it_is_the_closed_form_of_the_mixture(dtype, sigma):
    rows, alpha, sigma = (jnp.asarray(a, dtype) for a in (ROWS, 0.8, sigma))
    eps = jnp.asarray([0.7, -1.1], dtype)
    probes = ProbeDraw(jnp.eye(D, dtype=dtype), jnp.ones((), dtype), jnp.zeros((), dtype))
    found = PosteriorMean().cumulants(
        Diffused(rows[0], eps, alpha / sigma), Reference(rows[1:]), probes, 3
    )

    # In float64 always: in float32 the derivatives would lose more than what is tested.
    with jax.enable_x64(True):
        arguments = (jnp.asarray(np.asarray(a, np.float64)) for a in (rows, alpha, sigma))
        rows, alpha, sigma = arguments
        x_t = alpha * rows[0] + sigma * jnp.asarray(np.asarray(eps, np.float64))
        score = jax.grad(log_density)
        hessian = jax.jacfwd(score)(x_t, rows, alpha, sigma)
        third = jax.jacfwd(jax.jacfwd(score))(x_t, rows, alpha, sigma)
        expected = (
            -sigma * score(x_t, rows, alpha, sigma),
            sigma**2 * hessian + np.eye(D),
            -(sigma**3) * jnp.einsum("iij->ij", third),
        )
    tolerance = 1e-11 if dtype == jnp.float64 else 3e-5
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_where_other_rows_are_far_it_is_the_draw_bit_for_bit(order):
    rng = np.random.default_rng(0)
    rows = jnp.asarray(100 * rng.normal(size=(300, 5)), jnp.float32)
    probes = Rademacher().draw(jr.key(1), 2, 5, jnp.dtype("float32"))
    eps = jnp.asarray(rng.normal(size=5), jnp.float32)
    ratio = jnp.float32(1 / 0.01)
    found = PosteriorMean().cumulants(
        Diffused(rows[0], eps, ratio), Reference(rows[1:]), probes, order
    )
    np.testing.assert_array_equal(found.mean, eps)
    np.testing.assert_array_equal(found.second, np.zeros_like(found.second))
    np.testing.assert_array_equal(found.third, np.zeros_like(found.third))


def test_float32_suffices_where_rows_are_near_and_sigma_is_small():
    rng = np.random.default_rng(1)
    near = rng.normal(size=(1, 4)) + 0.01 * rng.normal(size=(200, 4))
    eps, v = rng.normal(size=4), rng.choice([-1.0, 1.0], (3, 4))

    def cumulants(dtype):
        arrays = (jnp.asarray(a, dtype) for a in (eps, 100.0, near, v))
        eps_, ratio, rows, vectors = arrays
        probes = ProbeDraw(vectors, jnp.ones((), dtype), jnp.zeros((), dtype))
        return PosteriorMean().cumulants(
            Diffused(rows[0], eps_, ratio), Reference(rows[1:]), probes, 3
        )

    low = cumulants(jnp.float32)
    with jax.enable_x64(True):
        high = cumulants(jnp.float64)
    for a, b in zip(low, high, strict=True):
        # Rows have seven digits of about 1, and are divided by σ = 0.01, up to three times.
        np.testing.assert_allclose(a, b, atol=2e-3)
        assert np.max(np.abs(b)) > 0.1


def loss_of(targets, batch, noise=Independent(), process=VE(0.1, 10.0), **options):
    """The terms of a batch's loss."""
    objective = DenoisingScoreMatching(
        process, options.pop("order", 1), targets=targets, noise=noise, **options
    )
    _, (terms, _) = objective(random_field(D), batch, jr.key(0), jnp.ones(()))
    return terms


def test_reference_rows_come_beside_the_batch():
    x = jnp.asarray(ROWS)
    alone = loss_of(Draw(), x)["first"]
    far, near = Referenced(x, x + 1e4), Referenced(x, x + 0.3)
    np.testing.assert_allclose(loss_of(PosteriorMean(), far)["first"], alone, rtol=1e-5)
    assert loss_of(PosteriorMean(), near)["first"] != pytest.approx(float(alone), rel=1e-3)
    for batch in (far, near):
        np.testing.assert_array_equal(loss_of(Draw(), batch)["first"], alone)


class Conditional(eqx.Module):
    """A conditional score that does not depend on its condition."""

    def __call__(self, x, t):
        return random_field(D)(x, t)

    def condition_on(self, _):
        return self


def test_an_example_came_from_a_row_of_the_same_conditions():
    x, process = jnp.asarray(ROWS), VE(0.1, 10.0)
    others = x + 0.3

    def first(targets, own, c):
        own, c = (jnp.full((len(x), 1), value) for value in (own, c))
        batch = Referenced(Pairs(x, own), Pairs(others, c))
        objective = DenoisingScoreMatching(process, targets=targets)
        return objective(Conditional(), batch, jr.key(0), jnp.ones(()))[1][0]["first"]

    drawn, mean = (
        loss_of(how, Referenced(x, others))["first"] for how in (Draw(), PosteriorMean())
    )
    np.testing.assert_array_equal(first(PosteriorMean(), 0.0, 1.0), drawn)
    np.testing.assert_array_equal(first(PosteriorMean(), 1.0, 1.0), mean)


@given(n=st.integers(2, 9), below=st.sampled_from([None, 1.0]), seed=st.integers(0, 99))
def test_pairs_share_row_and_time_with_opposite_noise(n, below, seed):
    process, keys = VP(), tuple(jr.split(jr.key(seed)))
    x = jr.normal(jr.key(seed + 1), (n, 3))
    row, eps, t, weight = Antithetic(below).draw(process, UniformTime(), keys, x)
    assert eps.shape == x.shape
    assert weight.shape == t.shape == (n,)
    for i in range(1, n, 2):
        assert t[i] == t[i - 1]
        assert weight[i] == weight[i - 1]
        ratio = process.sigma(t[i]) / process.alpha(t[i])
        if below is None or ratio < below * (1 - 1e-5):
            assert row[i] == row[i - 1]
            np.testing.assert_array_equal(eps[i], -eps[i - 1])
        elif ratio > below * (1 + 1e-5):
            assert row[i] == i
            assert np.all(eps[i] != -eps[i - 1])


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("below", [None, 0.5])
def test_the_gradient_of_pairs_has_the_expectation_of_independent_draws(below):
    process, n = VP(), 8

    @jax.jit
    @jax.vmap
    def difference(key):
        key_rows, key = jr.split(key)
        (x,) = draws(key_rows, 1, n)

        def slope(noise):
            objective = DenoisingScoreMatching(process, 3, noise=noise, every=2)
            loss = lambda size: objective(Along(size), x, key, jnp.ones(()))[0]  # noqa: E731
            return jax.grad(loss)(jnp.zeros(()))

        return slope(Antithetic(below)) - slope(Independent())

    assert_mean(np.asarray(difference(jr.split(jr.key(2), 4000))), 0.0)
