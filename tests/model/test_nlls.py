"""The bound, quiet and loud, and J_Diff against Theorem 1's."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import PROCESSES
from hypothesis import given
from hypothesis import strategies as st

from scoreode.data import Description, sources
from scoreode.evaluate.truth import oracle_of
from scoreode.flow import map_rows, nll_bound
from scoreode.model.build import prepare
from scoreode.model.defaults import for_table
from scoreode.model.fitted import Fitted
from scoreode.model.nlls import JDiff, NLLs
from scoreode.network import MLP
from scoreode.process import VE
from scoreode.theory import theorem_1
from scoreode.theory.wrong import Wrong


def standard_normal(process):
    def score(x, t):
        return -x / (process.alpha(t) ** 2 + process.sigma(t) ** 2)

    return score


def loud_bound(score, process, key, x_0, n_times=16):
    """The bound by plain Monte Carlo, uniform in log-SNR."""
    key_t, key_eps, key_T = jr.split(key, 3)
    low, high = process.log_snr_range(x_0.dtype)
    t = jax.vmap(process.t_of_log_snr)(low + (high - low) * jr.uniform(key_t, (n_times,)))
    eps = jr.normal(key_eps, (n_times, x_0.size))

    def excess(t, eps):
        x_t = process.alpha(t) * x_0 + process.sigma(t) * eps
        return jnp.sum((process.sigma(t) * score(x_t, t) + eps) ** 2) - x_0.size

    t_0, T = jnp.asarray(process.t_min), jnp.asarray(process.t_max)
    x_T = process.alpha(T) * x_0 + process.sigma(T) * jr.normal(key_T, x_0.shape)
    integral = (high - low) / 2 * jnp.mean(jax.vmap(excess)(t, eps))
    expansion = x_0.size * jnp.log(process.alpha(T) / process.alpha(t_0))
    return integral - process.prior_log_density(x_T) - expansion


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("n_times", [1, 5])
@pytest.mark.parametrize("name", PROCESSES)
def test_the_bound_of_a_standard_normal_score_is_its_law_without_noise(name, n_times):
    process = PROCESSES[name]()
    x = 2 * np.asarray(jr.normal(jr.key(0), (5, 3)))
    shared, keys = (standard_normal(process), process), jr.split(jr.key(1), 5)
    bounds = map_rows(eqx.Partial(nll_bound, n_times=n_times), shared, (keys, x), 5)
    law = 3 / 2 * np.log(2 * np.pi) + np.sum(x**2, 1) / 2
    # All that is left is what the process has done to a row at t_min.
    t_0 = jnp.asarray(process.t_min)
    left = (process.sigma(t_0) / process.alpha(t_0)) ** 2 * (3 + np.sum(x**2, 1))
    shift = 3 * abs(float(jnp.log(process.alpha(t_0))))
    np.testing.assert_allclose(bounds, law, atol=1e-6 + float(np.max(left + shift)))


@pytest.mark.usefixtures("x64")
def test_the_quiet_bound_has_the_mean_of_the_loud_one_and_less_noise():
    process, n = VE(0.01, 10.0), 4000
    score = Wrong.random(standard_normal(process), process, 0.3, 2, jr.key(0))
    x = np.tile([[1.0, -2.0]], (n, 1))
    keys = jr.split(jr.key(1), n)
    quiet, loud = (
        np.asarray(map_rows(bound, (score, process), (keys, x), 500))
        for bound in (nll_bound, loud_bound)
    )
    error = np.hypot(quiet.std(), loud.std()) / n**0.5
    assert abs(quiet.mean() - loud.mean()) < 4 * error
    assert quiet.var() < loud.var() / 10


def on_mixture():
    """A run on the 1-D mixture, whose weights are random."""
    data = sources.load_data("mixture")
    run = for_table(
        *data.train.shape, process=VE(0.01, 10.0), standardise="scale", network=MLP(16, 1)
    )
    run, density = prepare(run, data)
    arrays, static = eqx.partition(density.score_model.network, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)
    keys = jr.split(jr.key(3), len(leaves))
    leaves = [a + 0.2 * jr.normal(key, a.shape) for a, key in zip(leaves, keys, strict=True)]
    network = eqx.combine(jax.tree.unflatten(structure, leaves), static)
    density = eqx.tree_at(lambda d: d.score_model.network, density, network)
    return Fitted(run, density, Description.of(data), 0, 0.0, None), data.test


@pytest.mark.slow
def test_j_diff_is_that_of_theorem_1():
    fitted, rows = on_mixture()
    found = JDiff.of(fitted.nlls(rows[:8000]))
    truth = theorem_1(oracle_of(fitted), fitted.density.score_model, jr.key(0), 4096).J.Diff
    assert abs(truth.value) > 20 * truth.stderr, "else the test says nothing"
    assert abs(found.value - truth.value) < 4 * np.hypot(found.stderr, truth.stderr)


ROWS = st.lists(
    st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.integers(1, 4)), min_size=2, max_size=8
)


@given(ROWS)
def test_weights_count_rows(rows):
    ode, bound, counts = (np.array(column, float) for column in zip(*rows, strict=True))
    repeats = counts.astype(int)
    weighted = JDiff.of(NLLs(ode, bound), counts)
    repeated = JDiff.of(NLLs(np.repeat(ode, repeats), np.repeat(bound, repeats)))
    np.testing.assert_allclose(weighted[:3], repeated[:3], atol=1e-9)
    equal = JDiff.of(NLLs(ode, bound))
    excess = ode - bound
    assert equal.stderr == pytest.approx(np.std(excess, ddof=1) / len(excess) ** 0.5, abs=1e-9)


def test_rows_without_a_value_are_left_out():
    ode, bound = np.array([1.0, np.nan, 3.0]), np.array([0.0, 5.0, 1.0])
    found = JDiff.of(NLLs(ode, bound))
    assert found == JDiff.of(NLLs(ode[::2], bound[::2]))
    assert found.value == pytest.approx(1.5)
    assert found.rows == 2
    assert JDiff.of(NLLs(ode[:2], bound[:2])) is None


def test_a_summary_keeps_it():
    found = JDiff(1.0, 0.5, 0.5, 0.1, 7)
    assert JDiff.from_summary(found.summary | {"order": 3}) == found
    assert JDiff.from_summary({"order": 3}) is None
