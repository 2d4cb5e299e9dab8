"""The noise that training adds to few rows: its law, its scale, and who decides it."""

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.neighbors import KernelDensity

from scoreode.data import from_rows
from scoreode.model.build import prepare
from scoreode.model.config import PROCESSES
from scoreode.model.defaults import for_table
from scoreode.network import MLP
from scoreode.train import Rows, smoothing
from scoreode.train.samplers import Smoothed
from scoreode.train.smoothing import SHARES, kernel_bandwidth, with_smoothing
from scoreode.train.trainer import fit
from scoreode.train.validation import Validation


def data_of(x):
    return from_rows("few", x.astype(np.float32), list("abcdefghij")[: x.shape[1]], 0, 0.1)


def run_for(n, d, **options):
    return for_table(n, d, order=1, process=PROCESSES["ve"], **options)


def test_the_bandwidth_is_that_of_the_best_density_of_a_row_by_the_others():
    z = np.random.default_rng(0).normal(size=(60, 2))
    z[30:] = 3 + 0.2 * z[30:]

    def left_out(h):
        kernels = [KernelDensity(bandwidth=h).fit(np.delete(z, i, 0)) for i in range(len(z))]
        return np.mean([kernel.score(z[i : i + 1]) for i, kernel in enumerate(kernels)])

    h = kernel_bandwidth(z)
    assert left_out(h) >= max(left_out(0.97 * h), left_out(1.03 * h))
    assert left_out(h) > max(left_out(2 * h), left_out(h / 2)) + 0.05


def test_rows_that_repeat_have_the_smallest_bandwidth():
    assert kernel_bandwidth(np.repeat(np.eye(4), 20, 0)) == pytest.approx(0.01, rel=1e-3)


def test_smoothed_rows_have_the_law_of_a_kernel_density_estimate():
    rows, h, n = jnp.asarray([[0.0, 1.0], [3.0, -2.0]]), 0.3, 40_000
    x = np.asarray(Smoothed(Rows(rows), jnp.asarray(h))(jr.key(0), n), np.float64)
    error = 4 / np.sqrt(n)
    np.testing.assert_allclose(x.mean(0), rows.mean(0), atol=error * x.std(0).max())
    expected = np.cov(rows.T, bias=True) + h**2 * np.eye(2)
    np.testing.assert_allclose(np.cov(x.T), expected, atol=error * 3 * expected.max())
    near = x[np.linalg.norm(x - rows[0], axis=1) < 2] - rows[0]
    kurtosis = np.mean(near**4) / np.mean(near**2) ** 2
    assert kurtosis == pytest.approx(3, abs=4 * np.sqrt(96 / near.size))


@pytest.fixture
def few():
    return data_of(np.random.default_rng(1).normal(size=(80, 3)))


@pytest.fixture
def nll_by_share(few, monkeypatch):
    """Runs that training stands in for, each with an NLL that depends on its share alone."""
    tried = []

    def chosen(nll, **options):
        run, density = prepare(run_for(64, 3, **options), few)
        h = kernel_bandwidth(density.standardise(few.train[:].astype(np.float64))[0])

        def train(short):
            tried.append(replace(short, smoothing=round(short.smoothing / h, 6)))
            return tried[-1]

        monkeypatch.setattr(Validation, "exact_nats", lambda _, run: nll(run.smoothing))
        found = with_smoothing(run, few, density, train)
        return found, found.smoothing / h, tried

    return chosen


@pytest.mark.parametrize("best", SHARES)
def test_the_lowest_nll_of_short_trainings_decides(nll_by_share, best):
    run, share, tried = nll_by_share(lambda share: abs(share - best), steps=4000)
    assert share == pytest.approx(best, abs=1e-6)
    assert {short.steps for short in tried} == {1000}
    assert run.steps == 4000
    last = SHARES[: SHARES.index(best) + 3]
    assert tuple(short.smoothing for short in tried) == last, "until two are no better"


def test_short_runs_are_as_long_as_it_takes_to_learn_rows_by_heart(nll_by_share):
    *_, tried = nll_by_share(lambda share: share, steps=600)
    assert {short.steps for short in tried} == {500}


def test_seconds_of_short_trainings_are_of_the_budget(nll_by_share, monkeypatch):
    clock = iter((100.0, 130.0))
    monkeypatch.setattr(smoothing, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    run, _, tried = nll_by_share(lambda share: share, seconds=120.0)
    assert run.seconds == 90
    assert {short.seconds for short in tried} == {10}


@pytest.mark.parametrize("budget", [{"steps": 499}, {"seconds": 59.0}])
def test_runs_too_short_to_tell_have_none(nll_by_share, budget):
    run, share, tried = nll_by_share(lambda share: -share, **budget)
    assert (run.smoothing, share, tried) == (0, 0, [])


def test_rows_without_validation_and_rows_on_a_grid_have_none(few):
    run, density = prepare(run_for(64, 3, steps=1000), few)
    none = replace(few, validation=few.validation[:0])
    assert with_smoothing(run, none, density, pytest.fail).smoothing == 0
    whole = replace(few, bin_width=1.0)
    assert with_smoothing(run, whole, density, pytest.fail).smoothing == 0


def test_few_rows_have_it_chosen_and_many_have_none():
    assert run_for(4999, 3).smoothing is None
    assert run_for(5000, 3).smoothing == 0
    assert run_for(5000, 3, smoothing=0.2).smoothing == 0.2
    assert run_for(100, 192, image_shape=(8, 8, 3)).smoothing == 0


@pytest.mark.slow
@pytest.mark.optimised
def test_few_rows_of_a_known_law_have_a_better_density(monkeypatch):
    """Two clusters in ten columns, 150 rows: the KL of the model falls, by 4 standard errors."""
    monkeypatch.setattr(smoothing, "SHARES", (0.0, 0.5))
    rng = np.random.default_rng(2)
    laws = [multivariate_normal(mean, np.eye(10)) for mean in (np.zeros(10), np.full(10, 3.0))]
    x = rng.permutation(np.concatenate([law.rvs(300, random_state=rng) for law in laws]))
    data, test = data_of(x[:150]), x[150:]
    run = run_for(len(data.train), 10, steps=500, network=MLP(width=64, depth=2))
    smoothed, plain = fit(run, data), fit(replace(run, smoothing=0.0), data)
    assert smoothed.run.smoothing > 0
    one, two = (np.asarray(f.density.log_likelihood(test).nats) for f in (smoothed, plain))
    gain = one - two
    assert np.mean(gain) > 4 * np.std(gain) / np.sqrt(len(gain))
    truth = np.log(0.5) + np.logaddexp(*(law.logpdf(test) for law in laws))
    assert np.mean(truth - one) > 0
