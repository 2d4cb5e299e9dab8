"""The exact log-likelihood against closed forms, and what its record promises."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from scoreode.calculus import Basis, Rademacher
from scoreode.flow import Likelihood, ODESampler, Solver, map_rows, nll_bound
from scoreode.network import MLP
from scoreode.process import VE, VP
from scoreode.score import ScoreModel, Velocity
from scoreode.theory import MixtureOracle

MEAN, SCALE = 0.7, 0.5


def gaussian(process, d: int) -> MixtureOracle:
    """Data N(MEAN, SCALE² I) under the process."""
    means, covariances = jnp.full((1, d), MEAN), SCALE**2 * jnp.eye(d)[None]
    return MixtureOracle(process, jnp.ones(1), means, covariances)


def closed_form(process, x_0) -> np.ndarray:
    """log p_0 of the linear ODE that has N(α μ, S_t² I), S_t² = α² s² + σ², as its marginals.

    x_T = α_T μ + (S_T / S_0)(x_0 − α_0 μ), so log p_0 = log p_T(x_T) + d log(S_T / S_0).
    """
    t_0, T = jnp.asarray(process.t_min), jnp.asarray(process.t_max)
    S = lambda t: jnp.hypot(process.alpha(t) * SCALE, process.sigma(t))  # noqa: E731
    ratio = S(T) / S(t_0)
    x_T = process.alpha(T) * MEAN + ratio * (x_0 - process.alpha(t_0) * MEAN)
    log_p_T = jax.vmap(process.prior_log_density)(x_T)
    return np.asarray(log_p_T + x_0.shape[1] * jnp.log(ratio))


def untrained(process, d: int, seed: int = 0) -> ScoreModel:
    """A smooth random network, large enough in its output to bend the flow."""
    network = MLP(width=16, depth=1).build((d,), jr.key(seed))
    where = lambda network: network.readout.weight  # noqa: E731
    return ScoreModel(process, Velocity(), eqx.tree_at(where, network, replace_fn=lambda w: 30 * w))


def evaluated(score, process, x, how: Likelihood, key=None):
    return map_rows(how, (score, process, jr.key(0) if key is None else key), (x,), chunk=64)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gaussian_data_have_the_closed_form_and_the_error_follows_the_tolerance(process):
    x = MEAN + SCALE * jr.normal(jr.key(1), (20, 2))
    truth = closed_form(process, x)
    tolerances = np.array([1e-5, 1e-6, 1e-7, 1e-8])
    errors = []
    for tolerance in tolerances:
        traced = jnp.asarray(tolerance)
        how = Likelihood(solver=Solver(traced, traced, max_steps=100_000))
        record = evaluated(gaussian(process, 2), process, x, how)
        assert record.converged.all()
        assert (record.stderr == 0).all()
        errors.append(np.abs(record.nats - truth).max())
    # Steps of order 5 are chosen by an error of order 5 in the step, so the error is linear in the
    # tolerance; an estimate of its slope over three decades is good to about 0.3.
    slope = np.polyfit(np.log(tolerances), np.log(errors), 1)[0]
    assert 0.7 < slope < 1.4
    assert errors[-1] < 1e3 * tolerances[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("probe", [Basis(), Rademacher()])
def test_a_sample_comes_with_its_density(process, probe):
    """In closed form: x_0 of x_T, and log p_0 there."""
    how = Likelihood(probe, 4, Solver(1e-9, 1e-9, max_steps=100_000))
    x_T = 2.0 * jr.normal(jr.key(1), (20, 2)) * process.prior_scale()
    x_0, record = map_rows(how.sample, (gaussian(process, 2), process, jr.key(0)), (x_T,))
    assert record.converged.all()
    back = evaluated(gaussian(process, 2), process, x_0, how)
    np.testing.assert_allclose(back.latent, x_T, rtol=1e-5)
    # Of a score that is the same in all directions one probe knows the divergence.
    np.testing.assert_allclose(record.nats, closed_form(process, x_0), atol=1e-5)
    np.testing.assert_allclose(record.stderr, 0, atol=1e-9)


@pytest.mark.slow
def test_float32_at_the_default_tolerance(process):
    x = MEAN + SCALE * jr.normal(jr.key(1), (20, 2))
    record = evaluated(gaussian(process, 2), process, x, Likelihood())
    assert record.nats.dtype == np.float32
    np.testing.assert_allclose(record.nats, closed_form(process, x), atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("which", [VE(0.05, 10.0), VP(t_min=1e-3)], ids=["ve", "vp"])
def test_the_density_of_a_network_integrates_to_one(which):
    edge = np.linspace(-9, 9, 91)
    grid = np.stack(np.meshgrid(edge, edge), -1).reshape(-1, 2).astype(np.float32)
    how = Likelihood(solver=Solver(1e-4, 1e-4))
    record = map_rows(how, (untrained(which, 2), which, jr.key(0)), (grid,), chunk=1024)
    total = np.sum(np.exp(record.nats, dtype=np.float64)) * (edge[1] - edge[0]) ** 2
    assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_samples_go_back_to_the_latents_they_came_from():
    process, d = VE(0.05, 10.0), 3
    score, keys = untrained(process, d), jr.split(jr.key(2), 16)
    tight = Solver(1e-9, 1e-9)
    x = map_rows(ODESampler(tight), (score, process, (d,)), (keys,), chunk=16)
    record = evaluated(score, process, x, Likelihood(solver=tight))
    latent = jax.vmap(lambda key: process.prior_sample(key, (d,)))(keys)
    np.testing.assert_allclose(record.latent, latent, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_probes_agree_with_the_exact_divergence_and_know_their_error():
    process, d, n = VE(0.1, 10.0), 6, 300
    score = untrained(process, d)
    x = np.asarray(jr.normal(jr.key(3), (1, d)))
    solver = Solver(1e-5, 1e-5)
    exact = evaluated(score, process, x, Likelihood(Basis(), solver=solver)).nats[0]
    how = Likelihood(Rademacher(), n_probes=8, solver=solver)
    estimate = jax.jit(jax.vmap(lambda key: how(score, process, key, jnp.asarray(x[0]))))
    record = estimate(jr.split(jr.key(4), n))
    z = np.asarray((record.nats - exact) / record.stderr)
    spread = np.asarray(record.nats).std(ddof=1) / n**0.5
    assert abs(np.mean(record.nats) - exact) < 4 * spread
    # Student's t with 7 degrees of freedom has standard deviation √(7/5).
    assert 0.85 < z.std() / (7 / 5) ** 0.5 < 1.15


@pytest.mark.slow
def test_a_row_has_one_value_alone_shuffled_and_among_others():
    process, d = VE(), 3
    score, x = untrained(process, d), np.asarray(jr.normal(jr.key(5), (130, d)))
    how = Likelihood(Rademacher(), n_probes=2)
    together = evaluated(score, process, x, how).nats
    order = np.random.default_rng(0).permutation(len(x))
    np.testing.assert_array_equal(evaluated(score, process, x[order], how).nats, together[order])
    np.testing.assert_array_equal(evaluated(score, process, x[77:78], how).nats, together[77:78])


def test_evaluations_are_counted():
    process, calls = VE(), []
    score = gaussian(process, 2)

    def counted(x, t):
        jax.debug.callback(lambda: calls.append(1))
        return score(x, t)

    record = Likelihood()(counted, process, jr.key(0), jnp.ones(2))
    jax.block_until_ready(record)
    jax.effects_barrier()
    assert int(record.nfe) == len(calls)


def test_too_few_steps_and_bad_rows_are_marked_and_harm_no_other_row():
    process = VE()
    score, x = gaussian(process, 2), np.ones((3, 2), np.float32)
    assert not evaluated(score, process, x, Likelihood(solver=Solver(max_steps=3))).converged.any()
    x[1] = np.nan
    record = evaluated(score, process, x, Likelihood())
    np.testing.assert_array_equal(record.converged, [True, False, True])
    assert record.nats[0] == record.nats[2]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_bound_is_the_likelihood_for_the_exact_score_of_gaussian_data(process):
    x = MEAN + SCALE * jr.normal(jr.key(6), (2000, 2))
    shared = gaussian(process, 2), process
    bounds = map_rows(nll_bound, shared, (jr.split(jr.key(7), len(x)), x))
    truth = -closed_form(process, x)
    difference = bounds - truth
    # p^SDE differs from p^ODE only through the prior, by less than the Monte Carlo error here.
    assert abs(difference.mean()) < 4 * difference.std() / len(x) ** 0.5 + 2e-3
