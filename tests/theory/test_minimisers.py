"""Closed-form minimisers against posterior means, and Theorems 3, 4 and Proposition 2 on them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import gaussian, mixture
from scipy import stats
from standard_errors import assert_mean
from wrong_models import minimisers

from scoreode.process import VE, VP
from scoreode.theory.ladder import noisy_points
from scoreode.theory.minimisers import Local, Minimisers

pytestmark = pytest.mark.usefixtures("x64")

PROCESSES = {"ve": VE(sigma_max=10.0), "vp": VP()}
NAMES = ("second", "second_trace", "third", "meng")
by_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


@eqx.filter_jit
def evaluated(truth, x, t):
    """The minimisers, and ŝ1, ŝ2 and what stands for tr ŝ2, at one point."""
    at = truth.at(x, t)
    given = truth.score(x, t), truth.hessian(x, t), truth.trace(x, t)
    return {name: getattr(at, name) for name in NAMES}, given


def targets(eps, s1, s2, trace, sigma):
    """What each objective regresses its model on, at posterior draws of ε: (n, …)."""
    eye = np.eye(len(s1))
    l1 = sigma * s1 + eps
    l2, trace_l2 = sigma**2 * s2 + eye, sigma**2 * trace + len(s1)
    square = np.sum(l1**2, 1)
    outer = lambda a: np.einsum("ni,nj->nij", a, a)  # noqa: E731
    return {
        "second": (outer(l1) - eye) / sigma**2,
        "second_trace": (square - len(s1)) / sigma**2,
        "third": -((square - trace_l2)[:, None] * l1 - 2 * l1 @ l2.T) / sigma**3,
        "meng": (outer(eps) - eye) / sigma**2 - np.outer(s1, s1),
    }


def posterior_grid(oracle, x, alpha, sigma):
    """ε on a grid of x_0, and its weights given x_t = x: d = 1.

    The trapezoid rule has no error for a smooth integrand that vanishes at the ends.
    """
    weights, means, covariances = map(
        np.asarray, (oracle.weights, oracle.means, oracle.covariances)
    )
    x_0 = np.linspace(-9, 9, 40_001)
    components = [
        stats.norm.pdf(x_0, mean, scale)
        for mean, scale in zip(means[:, 0], np.sqrt(covariances[:, 0, 0]), strict=True)
    ]
    eps = (float(x[0]) - alpha * x_0) / sigma
    posterior = weights @ components * np.exp(-0.5 * eps**2)
    return eps[:, None], posterior / posterior.sum()


@by_process
def test_minimisers_are_posterior_means_by_quadrature(process):
    oracle = mixture(process, 1)
    truth = minimisers(oracle)
    for t in map(jnp.asarray, (0.15, 0.4, 0.8)):
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        for x in alpha * np.array([[-1.4], [0.1], [0.9], [2.0]]) + 0.3 * sigma:
            minima, given = evaluated(truth, jnp.asarray(x), t)
            eps, posterior = posterior_grid(oracle, x, alpha, sigma)
            for name, target in targets(eps, *map(np.asarray, given), sigma).items():
                expected = np.tensordot(posterior, target, 1)
                # Rounding: moments of ε, of order one, are divided by σ^k.
                scale = max(1.0, sigma**-3) * (1 + np.abs(expected))
                assert np.all(np.abs(minima[name] - expected) < 1e-11 * scale), name


def posterior_noise(oracle, x, alpha, sigma, rng, n):
    """Exact draws of ε given x_t = x: x_0 | x_t is a Gaussian mixture too."""
    weights, means, covariances = map(
        np.asarray, (oracle.weights, oracle.means, oracle.covariances)
    )
    marginals = alpha**2 * covariances + sigma**2 * np.eye(len(x))
    r = weights * [
        stats.multivariate_normal(alpha * m, C).pdf(x)
        for m, C in zip(means, marginals, strict=True)
    ]
    counts = rng.multinomial(n, r / r.sum())
    x_0 = []
    for count, m, S, C in zip(counts, means, covariances, marginals, strict=True):
        gain = alpha * S @ np.linalg.inv(C)
        covariance = S - alpha * gain @ S
        mean = m + gain @ (x - alpha * m)
        x_0.append(rng.multivariate_normal(mean, (covariance + covariance.T) / 2, count))
    return (x - alpha * np.concatenate(x_0)) / sigma


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 5])
@by_process
def test_minimisers_are_posterior_means_by_sampling(process, d):
    oracle, t, rng = mixture(process, d), jnp.asarray(0.4), np.random.default_rng(3)
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    x = alpha * rng.normal(size=d) + sigma * rng.normal(size=d)
    minima, given = evaluated(minimisers(oracle), jnp.asarray(x), t)
    eps = posterior_noise(oracle, x, alpha, sigma, rng, 200_000)
    for name, target in targets(eps, *map(np.asarray, given), sigma).items():
        assert_mean(target, minima[name])


@eqx.filter_jit
def errors_over(truth, x, t):
    """The errors, and ∇log q_t, in the order of the points."""

    def at(x, t):
        local = truth.at(x, t)
        return local.errors(), local.s

    return jax.vmap(at)(x, t)


@eqx.filter_jit
def errors_in_noise(truth, x, t):
    """The errors, and the truth's ‖H‖ and ‖T‖, in units of the noise."""

    def at(x, t):
        local = truth.at(x, t).in_units_of(truth.oracle.process.sigma(t))
        return local.errors(), jnp.linalg.norm(local.H), jnp.linalg.norm(local.T)

    return jax.vmap(at)(x, t)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "d"), [("ve", 1), ("vp", 2), ("ve", 5)])
def test_theorems_3_and_4_hold_with_these_powers(name, d):
    """Equalities, and the bound, at 2000 noisy points a size; some come near the bound."""
    oracle = mixture(PROCESSES[name], d)
    x, t = noisy_points(oracle, jr.key(0), 2000)
    for size in (0.03, 0.3, 3.0):
        e, H, T = errors_in_noise(minimisers(oracle, size), x, t)
        rounding = 1e-14 * (1 + H + T + e.third_bound)  # of differences from the truth
        assert np.all(np.abs(e.second - e.second_bound) < rounding)
        assert np.all(np.abs(e.second_trace - e.second_bound) < rounding)
        assert np.all(e.third <= e.third_bound + rounding)
        assert np.max(e.third / e.third_bound) > 0.3


def local(delta, Delta, s=None):
    """A point where the truth is nought, so that minimisers are the errors."""
    delta, Delta = jnp.asarray(delta), jnp.asarray(Delta)
    zero = jnp.zeros_like(delta)
    s = zero if s is None else jnp.asarray(s)
    return Local(s, jnp.zeros_like(Delta), zero, delta, Delta, jnp.trace(Delta))


@pytest.mark.parametrize("c", [0.0, 1.0, 7.0])
def test_theorem_4_is_attained_with_the_first_power_of_delta1(c):
    """At Δ = −c δδᵀ; and the poster's δ1² is exceeded wherever δ1 < 1."""
    for scale in (0.01, 0.5, 2.0):
        delta = scale * np.array([0.6, -0.8])
        e = local(delta, -c * np.outer(delta, delta)).errors()
        np.testing.assert_allclose(e.third, (1 + 3 * c) * scale**3, rtol=1e-12)
        np.testing.assert_allclose(e.third, e.third_bound, rtol=1e-12)
        np.testing.assert_allclose(e.third / e.third_printed, 1 / scale, rtol=1e-12)


def test_the_powers_of_delta1_by_quadrature():
    """Without the closed form, at ŝ2 the truth: slopes 2 and 3, and the printed bound exceeded."""
    process, t, x = VP(), jnp.asarray(0.4), jnp.array([0.3])
    oracle = mixture(process, 1)
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    at = minimisers(oracle).at(x, t)
    s, H, T = (np.asarray(value) for value in (at.s, at.H, at.T))
    eps, posterior = posterior_grid(oracle, x, alpha, sigma)
    sizes = np.logspace(-2, 0, 5)
    errors = {"second": [], "third": [], "meng": []}
    for delta1 in sizes:
        found = targets(eps, s + delta1, H, H[0, 0], sigma)
        for name, truth in {"second": H, "third": T, "meng": H}.items():
            mean = np.tensordot(posterior, found[name], 1)
            errors[name].append(np.linalg.norm(mean - truth))
    slope = {name: np.polyfit(np.log(sizes), np.log(e), 1)[0] for name, e in errors.items()}
    assert slope["second"] == pytest.approx(2, abs=0.01)
    assert slope["third"] == pytest.approx(3, abs=0.01)
    assert slope["meng"] < 1.6
    printed = sizes**4
    assert np.all((np.array(errors["third"]) > 1.01 * printed)[sizes < 0.9])


def test_units_tell_the_power_of_delta1():
    """In units of x twice as large every error of order k is 2^k, and so is a meaningful bound."""
    rng = np.random.default_rng(0)
    delta, Delta, s = rng.normal(size=3), rng.normal(size=(3, 3)), rng.normal(size=3)
    one, other = local(delta, Delta, s).errors(), local(2 * delta, 4 * Delta, 2 * s).errors()
    for name, order in {
        "second": 2,
        "second_bound": 2,
        "meng": 2,
        "meng_bound": 2,
        "third": 3,
        "third_bound": 3,
    }.items():
        assert getattr(other, name) / getattr(one, name) == pytest.approx(2**order), name
    assert other.third_printed / one.third_printed == pytest.approx(2**4)


def test_mengs_error_passes_any_bound_where_ours_stays():
    """Proposition 2, for Gaussian data: along a ray the error grows with ‖∇log q_t‖."""
    oracle = gaussian(VP(), np.zeros(2), np.diag([1.0, 0.5]))
    truth = Minimisers(oracle, lambda x, t: oracle(x, t) + jnp.array([0.06, 0.08]))
    radii = 10.0 ** np.arange(6)
    x, t = jnp.asarray(np.outer(radii, [0.28, 0.96])), jnp.full(radii.size, 0.3)
    e, s = errors_over(truth, x, t)
    s = np.linalg.norm(s, axis=1)
    # What is left of the errors when s, or s sᵀ, up to 1e10, has been rounded to 16 digits.
    np.testing.assert_allclose(e.delta1, 0.1, rtol=1e-9)
    np.testing.assert_allclose(e.second, 0.01, rtol=1e-9)
    midpoint = e.meng_bound / (2 * e.delta1)
    assert np.all(e.meng <= e.meng_bound * (1 + 1e-5))
    assert np.all(e.meng >= np.sqrt(2) * midpoint * e.delta1 * (1 - 1e-5))
    assert np.all(np.abs(midpoint - s) <= 0.05 * (1 + 1e-9))
    assert np.all(e.meng[1:] > 9 * e.meng[:-1])
    assert e.meng[-1] > 1e5 * e.second[-1]
