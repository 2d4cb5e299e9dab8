"""With the exact score samplers draw from the data's distribution; in few steps, as published."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import PROCESSES, mixture
from scipy import stats
from standard_errors import assert_covariance, assert_mean

from scoreode.flow import (
    Ancestral,
    DPMSolver,
    EulerMaruyama,
    ODESampler,
    PredictorCorrector,
    Solver,
    map_rows,
)
from scoreode.process import VE, VP

N = 4000
SAMPLERS = {
    "ode": ODESampler(),
    "sde": EulerMaruyama(1000),
    "ancestral": Ancestral(1000),
    "dpm": DPMSolver(100),
}


def sampled(how, process, d, n=N):
    keys = jr.split(jr.key(0), n)
    shared = mixture(process, d), process, (d,)
    return map_rows(how, shared, (keys,), chunk=2000)


def marginal(process, oracle):
    """Means and variances of the components of q at t_min, in one dimension."""
    t = jnp.asarray(process.t_min)
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    means, variances = np.asarray(oracle.means)[:, 0], np.asarray(oracle.covariances)[:, 0, 0]
    return alpha * means, alpha**2 * variances + sigma**2


def check_line(how, process):
    """Kolmogorov–Smirnov, and the moments, of a mixture of mean 0 and variance 1."""
    oracle, x = mixture(process, 1), sampled(how, process, 1)
    means, variances = marginal(process, oracle)
    weights = np.asarray(oracle.weights)

    def cdf(x):
        return weights @ stats.norm.cdf((x - means[:, None]) / np.sqrt(variances)[:, None])

    assert stats.kstest(x[:, 0], cdf).pvalue > 1e-3
    assert_mean(x, weights @ means)
    assert_covariance(x, [[weights @ (variances + (means - weights @ means) ** 2)]])


@pytest.mark.slow
@pytest.mark.parametrize("process", ["ve", "subvp", "new"], indirect=True)
def test_ode_samples_are_of_the_data(process):
    check_line(SAMPLERS["ode"], process)


@pytest.mark.slow
def test_sde_samples_are_of_the_data(process):
    check_line(SAMPLERS["sde"], process)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ancestral", "dpm"])
@pytest.mark.parametrize("process", ["ve", "vp"], indirect=True)
def test_other_samples_are_of_the_data(name, process):
    check_line(SAMPLERS[name], process)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
def test_dimensions_keep_their_covariance(name):
    process = PROCESSES["vp"]()
    x = sampled(SAMPLERS[name], process, 3)
    assert_mean(x, 0)
    assert_covariance(x, np.eye(3))


V = 0.3  # variance of Gaussian data, whose score is −x / (α² V + σ²)
LINEAR = {"ve": VE(0.01, 10.0), "vp": VP()}


def gaussian_score(process):
    variance = lambda t: process.alpha(t) ** 2 * V + process.sigma(t) ** 2  # noqa: E731
    return jax.tree_util.Partial(lambda x, t: -x / variance(t))


def scales(process, n_steps):
    """α, σ and Var x_t on the grid of times, from T to t_min."""
    t = np.linspace(process.t_max, process.t_min, n_steps + 1)
    alpha, sigma = (np.asarray(jax.vmap(f)(jnp.asarray(t))) for f in (process.alpha, process.sigma))
    return alpha, sigma, alpha**2 * V + sigma**2


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", LINEAR.values(), ids=LINEAR)
def test_ancestral_steps_have_the_published_variance(process):
    """For Gaussian data every step is linear: x_s = gain x_t + spread z."""
    n_steps = 12
    alpha, sigma, total = scales(process, n_steps)
    if isinstance(process, VE):
        # x_s = x_t + (σ_t² − σ_s²) s + σ_s √(σ_t² − σ_s²) / σ_t z
        between = sigma[:-1] ** 2 - sigma[1:] ** 2
        gain = 1 - between / total[:-1]
        spread2 = sigma[1:] ** 2 * between / sigma[:-1] ** 2
    else:
        # x_s = (x_t + β s) / √(1 − β) + √(β (1 − ᾱ_s) / (1 − ᾱ_t)) z
        beta = 1 - (alpha[:-1] / alpha[1:]) ** 2
        gain = (1 - beta / total[:-1]) / np.sqrt(1 - beta)
        spread2 = beta * (1 - alpha[1:] ** 2) / (1 - alpha[:-1] ** 2)
    variance = float(process.prior_scale()) ** 2
    for i in range(n_steps):
        variance = gain[i] ** 2 * variance + (spread2[i] if i < n_steps - 1 else 0)
    shared, keys = (gaussian_score(process), process, (4,)), jr.split(jr.key(1), N)
    x = map_rows(Ancestral(n_steps), shared, (keys,), chunk=N)
    assert_mean(x.ravel() ** 2, variance)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", LINEAR.values(), ids=LINEAR)
def test_correctors_and_predictors_are_the_published_ones(process):
    """In NumPy, with the noise of the same keys."""
    how, d, key = PredictorCorrector(5, snr=0.2), 6, jr.key(2)
    score = gaussian_score(process)
    alpha, sigma, total = scales(process, 5)
    key_prior, key_noise = jr.split(key)
    x = np.asarray(process.prior_sample(key_prior, (d,)))
    for i in range(5):
        predict, correct = jr.split(jr.fold_in(key_noise, i), 2)
        z, s = np.asarray(jr.normal(correct, (d,))), -x / total[i]
        a = alpha[i] / alpha[i + 1]  # published for VP as √(1 − β), for VE as 1
        size = 2 * a**2 * (how.snr * np.linalg.norm(z) / np.linalg.norm(s)) ** 2
        x = x + size * s + np.sqrt(2 * size) * z
        beta = 1 - a**2 if isinstance(process, VP) else sigma[i] ** 2 - sigma[i + 1] ** 2
        x = (2 - a) * x - beta * x / total[i]
        x = x + (i < 4) * np.sqrt(beta) * np.asarray(jr.normal(predict, (d,)))
    found = how(score, process, (d,), key)
    np.testing.assert_allclose(found, x, rtol=1e-8)


def test_correctors_have_the_variance_of_their_recursion():
    """In many dimensions norms are their means: E‖s‖² = d Var x_t / (α² V + σ²)²."""
    process, n_steps, d, how = LINEAR["ve"], 150, 256, PredictorCorrector(150)
    _, sigma, total = scales(process, n_steps)
    variance = float(process.prior_scale()) ** 2
    for i in range(n_steps):
        size = 2 * how.snr**2 * total[i] ** 2 / variance
        variance = (1 - size / total[i]) ** 2 * variance + 2 * size
        between = sigma[i] ** 2 - sigma[i + 1] ** 2
        variance = (1 - between / total[i]) ** 2 * variance + (i < n_steps - 1) * between
    shared, keys = (gaussian_score(process), process, (d,)), jr.split(jr.key(3), 200)
    x = map_rows(how, shared, (keys,), chunk=200)
    assert_mean(x, 0)
    assert np.var(x) == pytest.approx(variance, rel=4 / d + 4 * np.sqrt(2 / x.size))
    assert variance == pytest.approx(V, rel=0.25), "Langevin's bias, and that of few steps"


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", LINEAR.values(), ids=LINEAR)
def test_few_steps_are_of_second_order(process):
    oracle = mixture(process, 1)
    latents = np.asarray(jr.normal(jr.key(4), (10, 1)) * process.prior_scale())
    tight = ODESampler(Solver(1e-9, 1e-9))
    truth, coarse, fine = (
        map_rows(type(how).from_latent, (how, oracle, process), (latents,), chunk=10)
        for how in (tight, DPMSolver(160), DPMSolver(320))
    )
    errors = [np.abs(x - truth).mean() for x in (coarse, fine)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] < 1e-2
