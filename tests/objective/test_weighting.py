"""Weightings: E[w h(t)] = ∫ λ(t) h(t) dt, for the whole batch and for every index of it."""

from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import WEIGHTINGS, uniform_in_log_snr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import integrate
from standard_errors import assert_mean, z_scores

from scoreode.objective import AdaptiveLikelihood

pytestmark = pytest.mark.usefixtures("strict", "x64")

N = 16
BATCHES = 1000
# Weightings know a process by its log-SNR alone, and that is tested for all. With t drawn
# uniformly, w grows as 1/t: t_min = 1e-3 leaves it a variance that 16 000 draws can show.
on_some_processes = pytest.mark.parametrize("process", ["ve", "new"], indirect=True)

INTEGRANDS = {
    "one": lambda t, _: t**0,
    "time": lambda t, _: t,
    "wave": lambda t, _: 2 + np.cos(7 * t),
    "level": lambda _, log_snr: np.exp(-((log_snr / 4) ** 2)),
}


@pytest.fixture(params=WEIGHTINGS)
def weighted(request):
    return WEIGHTINGS[request.param]


@eqx.filter_jit
def batches(weighting, process):
    """Times, weights and log-SNRs of many batches, each (BATCHES, N)."""
    keys = jr.split(jr.key(0), BATCHES)
    t, w = jax.vmap(lambda key: weighting.sample(process, key, N))(keys)
    return t, w, jax.vmap(jax.vmap(process.log_snr))(t)


@eqx.filter_jit
def after_a_batch(weighting, process, terms):
    t, _ = weighting.sample(process, jr.key(1), N)
    return weighting.update(process, t, terms)


@lru_cache
def integral(density, process, name):
    """∫ λ h dt; over log t, as the log-SNR changes at its pace near t_min."""
    log_snr, weight = jax.jit(process.log_snr), density(process)

    def integrand(log_t):
        t = np.exp(log_t)
        return t * weight(t) * INTEGRANDS[name](t, float(log_snr(jnp.asarray(t))))

    ends = np.log([process.t_min, process.t_max])
    return integrate.quad(integrand, *ends, epsrel=1e-6, limit=100)[0]


@pytest.mark.slow
@on_some_processes
def test_means_are_the_integral(weighted, process):
    t, w, log_snr = map(np.asarray, batches(weighted.make(), process))
    assert np.all((t >= process.t_min) & (t <= process.t_max))
    assert np.all(w > 0)
    for name, h in INTEGRANDS.items():
        expected = integral(weighted.density, process, name)
        weighed = w * h(t, log_snr)
        assert_mean(weighed.mean(1), expected)
        assert_mean(weighed[:, ::4].mean(1), expected)  # orders 2 and 3 on each fourth example
        assert np.abs(z_scores(weighed, expected)).max() < 4.5  # every index; sixteen of them


@pytest.mark.parametrize("process", ["new"], indirect=True)
@pytest.mark.parametrize("name", [n for n, w in WEIGHTINGS.items() if w.make().stratified])
def test_stratification_lessens_the_variance(name, process):
    weighting = WEIGHTINGS[name].make()
    independent = eqx.tree_at(lambda w: w.stratified, weighting, False)

    def variance(weighting):
        t, w, _ = map(np.asarray, batches(weighting, process))
        return np.var((w * (2 + t)).mean(1))

    assert variance(weighting) < 0.8 * variance(independent)


@pytest.mark.parametrize("process", ["vp"], indirect=True)
def test_only_the_adaptive_weighting_learns(weighted, process):
    weighting = weighted.make()
    after = after_a_batch(weighting, process, 5 * jnp.ones(N))
    changed = not eqx.tree_equal(weighting, after)
    assert changed == isinstance(weighting, AdaptiveLikelihood)
    assert jax.tree.structure(after) == jax.tree.structure(weighting)


terms = hnp.arrays(np.float64, (3, N), elements=st.floats(0, 1e4))


@settings(max_examples=8)
@given(terms=terms)
@pytest.mark.parametrize("process", ["vp"], indirect=True)
def test_adaptive_is_unbiased_whatever_it_saw(process, terms):
    weighting = AdaptiveLikelihood()
    for row in terms:
        weighting = after_a_batch(weighting, process, jnp.asarray(row))
    t, w, log_snr = map(np.asarray, batches(weighting, process))
    assert np.all(w <= 1 / 0.15 + 1e-9)
    for name, h in INTEGRANDS.items():
        expected = integral(uniform_in_log_snr, process, name)
        assert np.abs(z_scores((w * h(t, log_snr)).mean(1), expected)).max() < 5


@pytest.mark.parametrize("process", ["ve"], indirect=True)
def test_adaptive_draws_in_proportion_to_the_terms(process):
    """Terms of a hundredfold size in one half of the range: that half is drawn most of the time."""
    weighting, low_high = AdaptiveLikelihood(), process.log_snr_range()
    middle = sum(low_high) / 2

    @jax.jit
    def see(mean_square, key):
        seen = eqx.tree_at(lambda w: w.mean_square, weighting, mean_square)
        t, _ = seen.sample(process, key, 256)
        noisy = jax.vmap(process.log_snr)(t) < middle
        return seen.update(process, t, jnp.where(noisy, 10.0, 0.1)).mean_square, noisy.mean()

    mean_square = weighting.mean_square
    for key in jr.split(jr.key(0), 200):
        mean_square, share = see(mean_square, key)
    # √mean_square is 100 : 1, mixed with a share of 0.15 that stays uniform.
    np.testing.assert_allclose(share, 0.15 / 2 + 0.85 * 100 / 101, atol=0.05)
