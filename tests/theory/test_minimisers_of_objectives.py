"""At the true score every order's gradient is zero: the objectives' minimisers are the truth."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import naive
import numpy as np
import pytest
from catalogue import mixture
from standard_errors import z_scores

from scoreode.calculus import Basis
from scoreode.objective import DenoisingScoreMatching
from scoreode.process import VE, VP, SubVP

pytestmark = pytest.mark.usefixtures("x64")

SAMPLES = {1: 40_000, 2: 6000, 5: 4000}
NAMES = ("first", "second", "second_trace", "third")
CASES = {"1-ve": (1, VE(sigma_max=10.0)), "2-vp": (2, VP()), "5-subvp": (5, SubVP())}


class Perturbed(eqx.Module):
    """(1 + θ_0) ∇log q_t + Σ_k θ_k φ_k / σ, φ_k smooth functions of x and of the noise level."""

    oracle: eqx.Module
    theta: jax.Array

    def __call__(self, x, t):
        process = self.oracle.process
        alpha, sigma = process.alpha(t), process.sigma(t)
        u = x / jnp.hypot(alpha, sigma)
        rng = np.random.default_rng(7)
        phi = 0.0
        for theta in self.theta[1:]:
            a, b, c = rng.normal(size=(3, x.size))
            phi += theta * c * jnp.tanh(u @ a + b[0] + 0.1 * process.log_snr(t))
        return (1 + self.theta[0]) * self.oracle(x, t) + phi / sigma


@eqx.filter_jit
def gradients(case_process, d, terms):
    """∂(terms)/∂θ at θ = 0 for many draws of x_0, ε and the log-SNR: (samples, terms, θ)."""
    oracle = mixture(case_process, d)
    key_x, key_eps, key_t = jr.split(jr.key(0), 3)
    x_0 = oracle.sample(key_x, SAMPLES[d])
    eps = jr.normal(key_eps, x_0.shape)
    low, high = case_process.log_snr_range()
    level = jr.uniform(key_t, (SAMPLES[d],), minval=low, maxval=high)
    t = jax.vmap(case_process.t_of_log_snr)(level)

    def gradient(x_0, eps, t):
        def at(theta):
            return terms(case_process, Perturbed(oracle, theta), x_0, eps, t)

        return jax.jacfwd(at)(jnp.zeros(3))

    return jax.vmap(gradient)(x_0, eps, t)


def package_terms(process, model, x_0, eps, t):
    objective = DenoisingScoreMatching(process, 3, probe=Basis())
    terms = objective.terms(model, x_0, eps, t, jr.key(0), 3)
    return jnp.stack([getattr(terms, name) for name in NAMES])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_gradients_vanish_at_the_truth(case):
    d, process = CASES[case]
    z = z_scores(gradients(process, d, package_terms))
    assert np.abs(z).max() < 4, dict(zip(NAMES, z, strict=True))


def mutant_terms(process, model, x_0, eps, t):
    """Each objective with the sign of its one term in ℓ1 alone turned.

    The terms of J3 in ℓ2 have mean zero given x_t when ŝ is the truth: they bound the error when it
    is not, and their signs are held by the formulas' own test.
    """
    x_t, sigma = process.diffuse(x_0, eps, t), process.sigma(t)
    s = lambda x: model(x, t)  # noqa: E731
    l1, l2 = jax.lax.stop_gradient(naive.hats(s, x_t, eps, sigma))
    return jnp.stack(
        [
            naive.second(s, x_t, l1, sigma, sign=-1),
            naive.second_trace(s, x_t, l1, sigma, sign=-1),
            naive.third(s, x_t, l1, l2, sigma, signs=(-1, -1, -2)),
        ]
    )


@pytest.mark.slow
def test_a_wrong_sign_would_show():
    d, process = CASES["1-ve"]
    z = np.abs(z_scores(gradients(process, d, mutant_terms))).max(1)
    assert np.all(z > 8), z
