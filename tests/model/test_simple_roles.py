"""Densities in closed form where columns are hidden or given, and given categories."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import integrate, special, stats

from scoreode.data.roles import with_roles
from scoreode.model.simple import SimpleDensity
from scoreode.model.standardise import Chain, ObservedScaling, Roles, Scaling

RNG = np.random.default_rng(3)
SHIFT, SCALE = np.array([1.0, -2.0, 30.0]), np.array([2.0, 0.5, 10.0])
MEANS = np.array([[0.0, 1.0, -1.0], [2.0, 0.0, 1.0]])
FACTORS = np.array([[[1.0, 0, 0], [0.5, 0.7, 0], [0.2, -0.3, 0.4]], np.diag([0.3, 1.2, 0.8])])
FACTORS[1, 2, 0] = 0.6
LOG_WEIGHTS, GATE = np.log([0.3, 0.7]), np.array([[0.0, 1.0], [2.0, -1.0]])
HIDDEN = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
K = np.array([[0, 0], [1, 0], [0, 1], [1, 0], [0, 0]], float)  # indicators of a category
X = SHIFT + SCALE * RNG.normal(size=HIDDEN.shape)


def law(df=np.inf):
    roles = Roles(Scaling(np.full(2, 0.4), np.full(2, 0.5)), 3)
    T = Chain((ObservedScaling(Scaling(SHIFT, SCALE)),), roles)
    return SimpleDensity(T, LOG_WEIGHTS, MEANS, np.linalg.inv(FACTORS), np.array(df), GATE)


def conditions(hidden, given=None):
    return with_roles(K, hidden, np.zeros_like(hidden), given)


def log_marginals(x, df):
    """log p of what is there under every component, by SciPy: (n, 2)."""
    found = np.zeros((len(x), 2))
    for j, (mean, L) in enumerate(zip(MEANS, FACTORS, strict=True)):
        m, S = SHIFT + SCALE * mean, (SCALE[:, None] * L) @ (SCALE[:, None] * L).T
        for i, row in enumerate(x):
            o = ~np.isnan(row)
            part = m[o], S[np.ix_(o, o)]
            if o.any():
                exact = stats.multivariate_t(*part, df=df) if df < 9 else None
                exact = exact or stats.multivariate_normal(*part)
                found[i, j] = exact.logpdf(row[o])
    return found


def log_weights():
    return special.log_softmax(LOG_WEIGHTS + K @ GATE.T, axis=1)


@pytest.mark.parametrize("df", [np.inf, 2.5])
def test_what_is_there_has_the_marginal_of_scipy(df):
    x = np.where(HIDDEN, np.nan, X)
    expected = special.logsumexp(log_weights() + log_marginals(x, df), axis=1)
    c = conditions(HIDDEN)
    np.testing.assert_allclose(law(df).log_likelihood(x, c), expected, rtol=1e-10, atol=1e-12)
    traced = jax.vmap(law(df).log_density)(jnp.asarray(x, jnp.float32), jnp.asarray(c))
    np.testing.assert_allclose(traced, expected, rtol=2e-5, atol=2e-5)


def some_given():
    """Rows of which the middle column is given, and the rest of `HIDDEN` hidden."""
    given = np.where([False, True, False], X, np.nan)
    hidden = HIDDEN & np.isnan(given)
    x = np.where(hidden | ~np.isnan(given), np.nan, X)
    return x, given, conditions(hidden, given)


@pytest.mark.parametrize("df", [np.inf, 2.5])
def test_given_columns_are_divided_out(df):
    x, given, c = some_given()
    both = np.where(np.isnan(given), x, given)
    nats = [special.logsumexp(log_weights() + log_marginals(r, df), axis=1) for r in (both, given)]
    np.testing.assert_allclose(
        law(df).log_likelihood(x, c), nats[0] - nats[1], rtol=1e-9, atol=1e-12
    )


def test_the_density_given_a_column_integrates_to_one():
    q = np.linspace(-60, 60, 6001)
    rows = np.stack([q, np.full_like(q, np.nan), np.full_like(q, np.nan)], axis=1)
    given = np.tile([np.nan, -1.7, 28.0], (len(q), 1))
    none = np.zeros(rows.shape, bool)
    c = with_roles(np.tile(K[1], (len(q), 1)), none, none, given)
    for df in (np.inf, 4.0):
        total = integrate.trapezoid(np.exp(law(df).log_likelihood(rows, c)), q)
        assert total == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("df", [np.inf, 2.0])
def test_derivatives_are_differences_and_0_where_nothing_is(df):
    x, _, c = some_given()
    v, h = RNG.normal(size=x.shape) * SCALE, 1e-5
    log_p = lambda x: law(df).log_likelihood(x, c)  # noqa: E731
    score, slope = law(df).score(x, c), (log_p(x + h * v) - log_p(x - h * v)) / (2 * h)
    assert not score[np.isnan(x)].any()
    np.testing.assert_allclose(np.sum(score * v, 1), slope, rtol=1e-6, atol=1e-7)
    slope = (law(df).score(x + h * v, c) - law(df).score(x - h * v, c)) / (2 * h)
    np.testing.assert_allclose(law(df).hessian_product(x, v, c), slope, rtol=1e-5, atol=1e-6)


def draws(df, n, given, c):
    with jax.enable_x64(True):
        keys = jr.split(jr.key(1), n)
    rows = with_roles(np.tile(c, (n, 1)), *np.zeros((2, n, 3), bool), np.tile(given, (n, 1)))
    return law(df).draws(keys, 3, rows)


@pytest.mark.parametrize("df", [np.inf, 3.0])
def test_draws_given_columns_have_the_conditional_law(df):
    """Kolmogorov and Smirnov's test, with the distribution function by quadrature."""
    given = np.array([np.nan, -1.7, 28.0])
    x = draws(df, 4000, given, K[1])
    np.testing.assert_allclose(x[:, 1:], np.tile(given[1:], (4000, 1)), rtol=1e-12)
    q = np.linspace(-60, 60, 24_001)
    rows = np.stack([q, np.full_like(q, np.nan), np.full_like(q, np.nan)], axis=1)
    c = with_roles(
        np.tile(K[1], (len(q), 1)), *np.zeros((2, len(q), 3), bool), np.tile(given, (len(q), 1))
    )
    cdf = integrate.cumulative_trapezoid(np.exp(law(df).log_likelihood(rows, c)), q, initial=0)
    assert stats.kstest(x[:, 0], lambda x: np.interp(x, q, cdf)).pvalue > 1e-3


def test_draws_given_nothing_have_the_categories_components():
    x = draws(np.inf, 4000, np.full(3, np.nan), K[1])
    weights = np.exp(log_weights()[1])
    mean = SHIFT + SCALE * (weights @ MEANS)
    np.testing.assert_allclose(x.mean(0), mean, atol=4 * (x.std(0) / 4000**0.5).max())
