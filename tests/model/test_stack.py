"""Stacks: their weights, their density and its derivatives, their draws."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import logsumexp

from scoreode.data.roles import with_roles
from scoreode.model.density import Density
from scoreode.model.simple import SimpleDensity
from scoreode.model.stack import Stack, stacking_weights
from scoreode.model.standardise import Chain, ObservedScaling, Roles, Scaling
from scoreode.network import Masked
from scoreode.process import VE
from scoreode.score import Score, ScoreModel, Velocity

RNG = np.random.default_rng(5)
X = RNG.normal(size=(7, 2)) * [2.0, 30.0]
UNITS = Chain((Scaling(np.zeros(2), np.array([1.0, 10.0])),))


def linear(y, log_snr):
    """The score of N(0, I) at any noise, in normalised coordinates."""
    return -y / jnp.sqrt(1 + jnp.exp(-log_snr))


def diffusion(shift):
    units = Chain((Scaling(np.array([shift, 0.0]), np.array([1.0, 10.0])),))
    return Density(units, ScoreModel(VE(0.01, 10.0), Score(), linear))


def normal(shift):
    A = np.eye(2)[None]
    return SimpleDensity(UNITS, np.zeros(1), np.full((1, 2), shift), A, np.array(np.inf))


@pytest.fixture(scope="module")
def stack():
    tail = SimpleDensity(UNITS, np.zeros(1), np.zeros((1, 2)), np.eye(2)[None], np.array(2.0))
    weights = np.array([0.2, 0.3, 0.4, 0.1])
    return Stack((diffusion(0.0), diffusion(3.0)), (tail, normal(-2.0)), weights)


def test_weights_of_a_known_mixture_are_found():
    n, w = 4000, 0.3
    x = np.where(RNG.random(n) < w, RNG.normal(size=n), 3 + RNG.normal(size=n))
    nats = np.stack([stats.norm.logpdf(x), stats.norm.logpdf(x, 3), stats.norm.logpdf(x, 40)], 1)
    found = stacking_weights(nats)
    assert found.sum() == pytest.approx(1, rel=1e-12)
    assert found[0] == pytest.approx(w, abs=4 * np.sqrt(w * (1 - w) / n) + 0.02)
    assert found[2] == pytest.approx(1 / 3 / (n + 1), rel=1e-6), "a third of a row's weight"


def test_rows_with_weights_count_as_often():
    nats = RNG.normal(size=(30, 3))
    counts = RNG.integers(1, 4, 30)
    repeated = stacking_weights(np.repeat(nats, counts, 0))
    # The one row that every component has weighs less beside more rows.
    weighted = stacking_weights(nats, counts.astype(float))
    np.testing.assert_allclose(weighted, repeated, atol=1 / 31)
    np.testing.assert_allclose(stacking_weights(nats, np.full(30, 7.0)), stacking_weights(nats))


def test_no_other_weights_have_a_greater_likelihood():
    nats = RNG.normal(size=(50, 3))
    w = stacking_weights(nats)

    def penalised(w):
        return np.sum(logsumexp(nats + np.log(w), axis=1)) + np.sum(np.log(w)) / 3

    for other in RNG.dirichlet(np.ones(3), 200):
        assert penalised(w) >= penalised(0.99 * w + 0.01 * other) - 1e-6


def test_the_density_is_the_mean_of_its_parts(stack):
    record = stack.log_likelihood(X)
    parts = [part.log_likelihood(X).nats for part in stack.densities]
    parts += [part.log_likelihood(X) for part in stack.others]
    logs = np.stack(parts, 1) + np.log(stack.weights)
    np.testing.assert_allclose(record.nats, logsumexp(logs, axis=1), rtol=1e-12)
    assert record.converged.all()
    np.testing.assert_array_equal(
        record.nfe, sum(part.log_likelihood(X).nfe for part in stack.densities)
    )
    traced = jax.vmap(stack.log_density)(jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(traced, record.nats, atol=2e-3)  # one grid, in float32


def test_a_row_that_is_like_no_other_costs_what_the_tail_says(stack):
    far = np.array([[1e9, 0.0]])
    tail = stack.others[0].log_likelihood(far)
    found = stack.log_likelihood(far).nats
    np.testing.assert_allclose(found, tail + np.log(0.4), rtol=1e-6)
    assert found > -150


def test_a_diffusion_that_is_lost_has_no_share(stack, monkeypatch):
    x = np.array([[0.5, -1.0], [3.0, 2.0]])
    whole, solve = stack.log_likelihood(x).nats, Density.log_likelihood

    def lost(self, x, *args):
        record = solve(self, x, *args)
        where = lambda record: (record.nats, record.error)  # noqa: E731
        nats, error = np.array([1e9, *record.nats[1:]]), np.array([1e7, 0])
        return eqx.tree_at(where, record, (nats, error))

    def nowhere(_self, x, *_):
        return np.full(x.shape, np.nan)

    monkeypatch.setattr(Density, "log_likelihood", lost)
    monkeypatch.setattr(Density, "score", nowhere)
    monkeypatch.setattr(Density, "hessian_product", nowhere)
    record = stack.log_likelihood(x)
    found = record.nats
    assert record.error[0] == 0
    assert np.isfinite([*stack.score(x)[0], *stack.hessian_product(x, x)[0]]).all()
    others = [
        np.log(w) + o.log_likelihood(x[:1])[0]
        for w, o in zip((0.4, 0.1), stack.others, strict=True)
    ]
    np.testing.assert_allclose(found, [logsumexp(others), whole[1]], rtol=1e-12)


def wild(y, log_snr):
    """That of N(0, I) near the middle; beyond, one that no grid follows."""
    return jnp.where(jnp.abs(y) < 6, linear(y, log_snr), 1e3 * jnp.sin(1e3 * y))


def test_traced_densities_believe_no_diffusion_that_is_lost():
    lost = Density(UNITS, ScoreModel(VE(0.01, 10.0), Score(), wild))
    tail = SimpleDensity(UNITS, np.zeros(1), np.zeros((1, 2)), np.eye(2)[None], np.array(2.0))
    stack = Stack((lost,), (tail,), np.array([0.6, 0.4]))
    x = np.array([[0.5, -1.0], [40.0, 300.0]])
    assert (lost.log_likelihood(x).error > 1).tolist() == [False, True]
    traced, gradient = jax.vmap(jax.value_and_grad(stack.log_density))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(traced, stack.log_likelihood(x).nats, atol=2e-3)
    np.testing.assert_allclose(gradient, stack.score(x), atol=2e-3)


def test_derivatives_are_those_of_the_density(stack):
    v = RNG.normal(size=X.shape)

    def log_density(x):
        return stack.log_density(x)

    with jax.enable_x64(True):
        x = jnp.asarray(X)
        gradient = jax.vmap(jax.grad(log_density))(x)
        hessian = jax.vmap(jax.hessian(log_density))(x)
    np.testing.assert_allclose(stack.score(X), gradient, atol=3e-4)
    expected = np.einsum("nij,nj->ni", hessian, v)
    np.testing.assert_allclose(stack.hessian_product(X, v), expected, atol=1e-3)
    trace, stderr = stack.laplacian(X)
    np.testing.assert_allclose(trace, np.trace(hessian, axis1=1, axis2=2), atol=1e-3)
    assert not stderr.any()


def test_after_some_noise_derivatives_are_those_of_the_first_network(stack):
    first = stack.densities[0]
    np.testing.assert_array_equal(stack.score(X, 0.5), first.score(X, 0.5))
    np.testing.assert_array_equal(stack.network_score(X, 0.5), first.network_score(X, 0.5))
    v = np.ones_like(X)
    np.testing.assert_array_equal(
        stack.hessian_product(X, v, 0.5), first.hessian_product(X, v, 0.5)
    )
    np.testing.assert_array_equal(stack.laplacian(X, 0.5)[0], first.laplacian(X, 0.5)[0])


def test_draws_come_from_every_part_by_weight():
    far = Stack((diffusion(0.0), diffusion(100.0)), (normal(-50.0),), np.array([0.2, 0.3, 0.5]))
    n = 2000
    x = far.sample(n, 2, seed=3)
    counts = np.histogram(x[:, 0], [-80, -20, 50, 120])[0]
    assert stats.chisquare(counts, n * np.array([0.5, 0.2, 0.3])).pvalue > 1e-4
    np.testing.assert_array_equal(far.sample(50, 2, seed=3), x[:50])
    assert not np.array_equal(far.sample(50, 2, seed=4), x[:50])


def test_traced_draws_come_from_every_part():
    far = Stack((diffusion(0.0),), (normal(-50.0),), np.array([0.25, 0.75]))
    x = jax.vmap(lambda key: far.draw(key, 2))(jr.split(jr.key(0), 400))
    share = np.mean(np.asarray(x)[:, 0] < -20)
    assert share == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 400))


def standing(y, *_):
    """The velocity of N(0, I), whatever the roles of the columns."""
    return jnp.zeros_like(y)


@pytest.fixture(scope="module")
def told_roles():
    """Two dependent parts and a diffusion of independent columns, given a category's indicator."""
    T = Chain((ObservedScaling(Scaling(np.zeros(2), np.array([1.0, 10.0]))),))
    T = replace(T, condition=Roles(Scaling(np.zeros(1), np.ones(1)), 2))
    model = ScoreModel(VE(0.01, 10.0), Velocity(), Masked(standing, 2))
    A = np.linalg.inv([[1.0, 0.0], [0.8, 0.6]])[None]
    tail = SimpleDensity(T, np.zeros(1), np.ones((1, 2)), A, np.array(2.0))
    two = np.array([[-2.0, 1.0], [2.0, 0.0]])
    gate = np.array([[0.0], [1.5]])
    mixture = SimpleDensity(T, np.log([0.6, 0.4]), two, A, np.array(np.inf), gate)
    return Stack((Density(T, model),), (tail, mixture), np.array([0.3, 0.3, 0.4]))


def with_given(n, hidden, given=None):
    """n conditions with one indicator, which is 1, and the roles of two columns."""
    hidden = np.tile(np.array(hidden), (n, 1))
    given = None if given is None else np.tile(np.array(given), (n, 1))
    return with_roles(np.ones((n, 1)), hidden, np.zeros_like(hidden), given)


def test_given_columns_the_density_is_that_of_both_over_that_of_the_given(told_roles):
    a = np.linspace(-4, 4, 9)
    none = np.full_like(a, np.nan)
    both = np.stack([a, np.full_like(a, -7.0)], axis=1)
    nats = told_roles.log_likelihood(both, c=with_given(9, [False, False])).nats
    alone = np.stack([none, both[:, 1]], axis=1)
    less = told_roles.log_likelihood(alone, c=with_given(9, [True, False])).nats
    c = with_given(9, [False, False], [np.nan, -7.0])
    found = told_roles.log_likelihood(np.stack([a, none], axis=1), c=c).nats
    np.testing.assert_allclose(found, nats - less, atol=3e-4)  # tolerances of three solutions


def test_what_is_there_integrates_to_the_marginal(told_roles):
    b = np.linspace(-300, 300, 6001)
    rows = np.stack([np.full_like(b, 0.7), b], axis=1)
    total = np.exp(told_roles.log_likelihood(rows, c=with_given(len(b), [False, False])).nats)
    alone = told_roles.log_likelihood(rows[:1] * [1, np.nan], c=with_given(1, [False, True])).nats
    assert np.trapezoid(total, b) == pytest.approx(np.exp(alone[0]), rel=1e-3)


def test_draws_given_columns_have_the_stacks_law(told_roles):
    n, given = 1500, [np.nan, -7.0]
    c = with_given(n, [False, False], given)
    x = told_roles.draws(np.arange(n), 2, c=c)[:, 0]
    q = np.linspace(-300, 300, 6001)
    rows = np.stack([q, np.full_like(q, np.nan)], axis=1)
    nats = told_roles.log_likelihood(rows, c=with_given(len(q), [False, False], given)).nats
    cdf = integrate.cumulative_trapezoid(np.exp(nats), q, initial=0)
    assert cdf[-1] == pytest.approx(1, abs=1e-3)
    assert stats.kstest(x, lambda x: np.interp(x, q, cdf)).pvalue > 1e-3
    np.testing.assert_array_equal(told_roles.draws(np.arange(5), 2, c=c[:5])[:, 0], x[:5])


def test_derivatives_given_columns_are_those_of_the_density(told_roles):
    x = np.stack([np.linspace(-3, 3, 5), np.full(5, np.nan)], axis=1)
    c, h = with_given(5, [False, False], [np.nan, -7.0]), 1e-2
    up, down = (told_roles.log_likelihood(x + np.array([s, 0]), c=c).nats for s in (h, -h))
    score = told_roles.score(x, c=c)
    np.testing.assert_allclose(score[:, 0], (up - down) / (2 * h), atol=0.02)
    assert not score[:, 1].any()
