"""Fits of simple densities to rows that lack values, and to rows with categories."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn.mixture import GaussianMixture

from scoreode.data.roles import with_roles
from scoreode.model.simple import fit_kernels, fit_mixture, fit_tail, mixture
from scoreode.model.simple.gates import groups_of, linear
from scoreode.model.simple.mixture import Classes, Table
from scoreode.model.simple.observed import Observed
from scoreode.model.standardise import Chain, ObservedScaling, Roles, Scaling

FACTOR = np.array([[1.0, 0, 0], [0.5, 0.7, 0], [0.2, -0.3, 0.4]])
PLAIN = Chain(())


def table_of(x):
    return Table(Observed.of(np.nan_to_num(x), ~np.isnan(x)), np.empty((len(x), 0), int))


def observed_chain(x):
    return Chain((ObservedScaling.of_quartiles(x),), Roles(Scaling.identity(0), x.shape[1]))


def absent(x):
    return with_roles(np.empty((len(x), 0)), np.isnan(x), np.zeros(x.shape, bool))


def test_of_whole_rows_it_is_the_mixture_of_scikit_learn():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(300, 2)), 3 + rng.normal(size=(200, 2)) @ FACTOR[:2, :2]])
    found = fit_mixture(PLAIN, x, 3)
    expected = GaussianMixture(3, reg_covar=1e-3, random_state=0).fit(x).score_samples(x)
    np.testing.assert_allclose(found.log_likelihood(x).mean(), expected.mean(), atol=2e-3)


def test_of_many_rows_it_finds_the_number_of_classes_and_comes_near_the_law():
    rng = np.random.default_rng(7)
    middles, n = np.array([(i, j) for i in range(5) for j in range(5)]) * 6.0, 6000

    def draw(n):
        return middles[rng.integers(0, 25, n)] + rng.normal(size=(n, 2))

    fresh = draw(2000)
    truth = np.log(np.mean([stats.multivariate_normal(m).pdf(fresh) for m in middles], axis=0))
    found = fit_mixture(PLAIN, draw(n))
    lost = truth - found.log_likelihood(fresh)
    assert len(found.means) == 32
    # Half as many as parameters over the rows (Akaike 1973); twice that, as k is not the truth's.
    assert lost.mean() < 6 * len(found.means) / n + 3 * stats.sem(lost)


def test_rows_beyond_the_most_have_no_part(monkeypatch):
    monkeypatch.setattr(mixture, "_MOST", 300)
    x = np.random.default_rng(8).normal(size=(400, 2))
    some, every = fit_mixture(PLAIN, x[:300], 2), fit_mixture(PLAIN, x, 2)
    np.testing.assert_array_equal(some.means, every.means)


def test_a_gaussian_whose_last_column_has_gaps_has_the_closed_form_of_anderson():
    """The greatest likelihood of a monotone pattern (Anderson 1957): a regression on whole rows."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]]) + [0.5, -1.0]
    x[x[:, 0] > 0.8, 1] = np.nan  # missing at random: whether, the first column says
    whole = ~np.isnan(x[:, 1])
    slope = np.cov(x[whole].T, bias=True)[0, 1] / x[whole, 0].var()
    mean = x[whole, 1].mean() + slope * (x[:, 0].mean() - x[whole, 0].mean())
    residual = x[whole, 1] - x[whole, 1].mean() - slope * (x[whole, 0] - x[whole, 0].mean())
    variance = residual.var() + slope**2 * x[:, 0].var()
    found = Classes.fit(table_of(x), 1)
    # EM ends when a step gains little: within that, and the ridge on the diagonal.
    np.testing.assert_allclose(found.means[0], [x[:, 0].mean(), mean], atol=0.03)
    np.testing.assert_allclose(found.covariances[0, 1, 1], variance, rtol=0.05)
    assert abs(np.nanmean(x[:, 1]) - mean) > 0.1, "what is there has another mean"


def test_em_never_loses():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 3)) @ FACTOR.T + 2 * rng.integers(0, 2, (200, 1))
    x[rng.random(x.shape) < 0.3] = np.nan
    table, k = table_of(x), 2
    classes = Classes(
        np.log(np.full(k, 0.5)), rng.normal(size=(k, 3)), np.tile(np.eye(3), (k, 1, 1)), ()
    )
    nats = []
    for _ in range(12):
        logs = classes.log_joint(table)
        nats.append(special.logsumexp(logs, axis=1).sum())
        classes = classes._step(table, special.softmax(logs, axis=1))
    # The ridge is added after a step, and takes its part of the likelihood.
    assert (np.diff(nats) > -0.05 * np.abs(np.diff(nats[:2]))).all()
    assert nats[-1] > nats[0] + 10


def classes_with_gaps(n, seed):
    """A category of three levels, of which a class has its own law, and gaps."""
    rng = np.random.default_rng(seed)
    j = rng.integers(0, 2, n)
    P = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    level = (rng.random(n)[:, None] > np.cumsum(P[j], 1)).sum(1)
    x = np.where(j[:, None] == 0, -1.5, 1.5) + rng.normal(size=(n, 3)) @ FACTOR.T
    x[rng.random(x.shape) < 0.2] = np.nan
    return x, (level[:, None] == [1, 2]).astype(float), P[:, level].T / P[:, level].sum(0)[:, None]


def test_classes_of_a_known_law_are_found():
    x, k, posterior = classes_with_gaps(3000, 0)
    law = fit_mixture(PLAIN, x, None, k, (2,))
    new, k, posterior = classes_with_gaps(2000, 1)
    table = Table(Observed.of(np.nan_to_num(new), ~np.isnan(new)), groups_of(k, (2,)), (3,))
    weights = special.log_softmax(law.log_weights + k @ law.gate.T, axis=1)
    covs = [np.linalg.inv(A.T @ A) for A in law.A]
    logs = [table.rows.log_density(m, S) for m, S in zip(law.means, covs, strict=True)]
    nats = special.logsumexp(weights + np.stack(logs, 1), axis=1)
    exact = [table.rows.log_density(np.full(3, m), FACTOR @ FACTOR.T) for m in (-1.5, 1.5)]
    gap = special.logsumexp(np.log(posterior) + np.stack(exact, 1), axis=1) - nats
    assert gap.mean() > -4 * gap.std() / 2000**0.5
    assert gap.mean() < 0.03


def test_the_gate_is_the_sum_of_what_categories_add():
    rng = np.random.default_rng(0)
    levels = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    groups = np.stack([rng.integers(0, 3, 20), rng.integers(0, 2, 20)], 1)
    c = np.concatenate([groups[:, :1] == [1, 2], groups[:, 1:] == [1], rng.random((20, 2))], 1)
    np.testing.assert_array_equal(groups_of(c.astype(float), (2, 1)), groups)
    b, W = linear(np.arange(4.0), levels)
    expected = np.arange(4.0) + levels[0].T[groups[:, 0]] + levels[1].T[groups[:, 1]]
    np.testing.assert_allclose(b + c[:, :3] @ W.T, expected)
    assert linear(np.arange(4.0), ())[1] is None


def test_kernels_of_other_categories_count_for_less():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 150)
    k = (group[:, None] == [1, 2]).astype(float)
    x = rng.normal(size=(150, 2)) + 4 * group[:, None]
    law = fit_kernels(PLAIN, x, k, (2,))
    h = 1 / law.A[0, 0, 0]
    penalty = law.log_weights[group == 0][0] - law.log_weights[group == 1][0]
    assert penalty > 1
    weights = special.log_softmax(-penalty * (group[:20, None] != group), axis=1)
    squares = np.sum((x[:20, None] - x) ** 2, 2)
    expected = special.logsumexp(weights - squares / (2 * h**2), axis=1) - np.log(2 * np.pi * h**2)
    np.testing.assert_allclose(law.log_likelihood(x[:20], k[:20]), expected, rtol=1e-10)
    # A category that tells nothing has no weight.
    shuffled = fit_kernels(PLAIN, x, rng.permutation(k), (2,))
    assert np.abs(shuffled.gate).max() <= 0.5


@pytest.mark.parametrize("lacking", [0.0, 0.25])
def test_a_tail_finds_its_degrees_of_freedom_where_values_lack(lacking):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(4000, 3)) @ FACTOR.T / np.sqrt(rng.chisquare(2.5, (4000, 1)) / 2.5)
    x[rng.random(x.shape) < lacking] = np.nan
    law = fit_tail(observed_chain(x), x)
    assert law.df == pytest.approx(2.5, abs=0.25)
    root = law.bijection.parts[0].scaling.scale[:, None] * np.linalg.inv(law.A[0])
    np.testing.assert_allclose(root @ root.T, FACTOR @ FACTOR.T, atol=0.1)
    exact = [
        stats.multivariate_t(np.zeros(o.sum()), (FACTOR @ FACTOR.T)[np.ix_(o, o)], df=2.5).logpdf(
            r[o]
        )
        if (o := ~np.isnan(r)).any()
        else 0.0
        for r in x[:200]
    ]
    gap = exact - law.log_likelihood(x[:200], absent(x[:200]))
    assert abs(gap.mean()) < 0.03


def test_absurd_values_ruin_no_tail_with_gaps():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1000, 2))
    x[rng.random(x.shape) < 0.2] = np.nan
    x[::100, 0] = 1e7
    law = fit_tail(observed_chain(x), x)
    far = np.array([[1e9, np.nan], [-1e9, 0.0]])
    assert (law.log_likelihood(far, absent(far)) > -120).all()
