"""Samples: the ODE run from the prior, or the reverse SDE, each in several discretisations.

    ODE   dx = (f − ½ g² s) dt           ODESampler, DPMSolver
    SDE   dx = (f − g² s) dt + g dw̄      EulerMaruyama, Ancestral, PredictorCorrector

With the exact score both have the data's marginals; with a learned one they are different models,
and `log_likelihood` is the ODE's. All have one form: `sampler(score, process, shape, key)` is one
sample of p at t_min.
"""

import abc
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from scoreode._typing import Example, Scalar, ScoreFunction
from scoreode.flow.ode import Solver, velocity
from scoreode.process import AbstractProcess

Carry = TypeVar("Carry")


class AbstractSampler(eqx.Module):
    """How x_0 is drawn."""

    @abc.abstractmethod
    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        shape: tuple[int, ...],
        key: PRNGKeyArray,
    ) -> Example:
        """One sample of this shape."""


class ODESampler(AbstractSampler):
    """x_0 from x_T ~ p_T by the probability-flow ODE: exact samples of p_0^ODE."""

    solver: Solver = Solver()

    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        shape: tuple[int, ...],
        key: PRNGKeyArray,
    ) -> Example:
        """One sample of this shape. **Cost:** as many evaluations as the solver takes."""
        return self.from_latent(score, process, process.prior_sample(key, shape))

    def from_latent(self, score: ScoreFunction, process: AbstractProcess, x_T: Example) -> Example:
        """The x_0 that the ODE carries x_T to."""

        def field(t: Scalar, x: Example) -> Example:
            return velocity(score, process, x, t)

        return self.solver(field, x_T, process.t_max, process.t_min)[0]


class EulerMaruyama(AbstractSampler):
    """x_0 from x_T ~ p_T by Euler–Maruyama steps of the reverse SDE, equal in t.

    The last step adds no noise. Weak error is of first order in the step.
    """

    n_steps: int = 1000

    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        shape: tuple[int, ...],
        key: PRNGKeyArray,
    ) -> Example:
        """One sample of this shape. **Cost:** `n_steps` evaluations of the score."""
        key_prior, key_noise = jr.split(key)
        times = jnp.linspace(process.t_max, process.t_min, self.n_steps + 1)

        def step(x: Example, i: Array) -> tuple[Example, None]:
            t, dt = times[i], times[i] - times[i + 1]
            g2 = process.g2(t)
            mean = x - dt * (process.drift(x, t) - g2 * score(x, t))
            noise = jr.normal(jr.fold_in(key_noise, i), shape)
            last = i == self.n_steps - 1
            return mean + jnp.where(last, 0.0, jnp.sqrt(g2 * dt)) * noise, None

        return jax.lax.scan(step, process.prior_sample(key_prior, shape), jnp.arange(self.n_steps))[
            0
        ]


class Transition(NamedTuple):
    """From t to an earlier s: the forward kernel q(x_t | x_s) = N(a x_s, b² I), and both scales."""

    t: Scalar
    a: Scalar
    b2: Scalar
    alpha_s: Scalar
    sigma_s: Scalar
    alpha_t: Scalar
    sigma_t: Scalar

    @classmethod
    def of(cls, process: AbstractProcess, t: Scalar, s: Scalar) -> "Transition":
        alpha_s, sigma_s = process.alpha(s), process.sigma(s)
        alpha_t, sigma_t = process.alpha(t), process.sigma(t)
        a = alpha_t / alpha_s
        return cls(t, a, sigma_t**2 - (a * sigma_s) ** 2, alpha_s, sigma_s, alpha_t, sigma_t)

    def data(self, score: Example, x: Example) -> Example:
        """x̂_0 = (x_t + σ_t² s) / α_t."""
        return (x + self.sigma_t**2 * score) / self.alpha_t


def _along(
    process: AbstractProcess, n_steps: int, step: Callable[[Transition, Array, Carry], Carry]
) -> Callable[[Carry], Carry]:
    """Runs `step` from T to t_min, over times equal in t."""
    times = jnp.linspace(process.t_max, process.t_min, n_steps + 1)

    def body(carry: Carry, i: Array) -> tuple[Carry, None]:
        return step(Transition.of(process, times[i], times[i + 1]), i, carry), None

    return lambda carry: jax.lax.scan(body, carry, jnp.arange(n_steps))[0]


class Ancestral(AbstractSampler):
    """Draws from q(x_s | x_t, x̂_0), steps equal in t (Ho et al. 2020; for VE Song et al. 2021).

        x_s = (a σ_s² x_t + b² α_s x̂_0) / σ_t² + (σ_s b / σ_t) z

    The last step adds no noise.
    """

    n_steps: int = 1000

    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        shape: tuple[int, ...],
        key: PRNGKeyArray,
    ) -> Example:
        """One sample of this shape. **Cost:** `n_steps` evaluations of the score."""
        key_prior, key_noise = jr.split(key)

        def step(at: Transition, i: Array, x: Example) -> Example:
            x_0 = at.data(score(x, at.t), x)
            mean = (at.a * at.sigma_s**2 * x + at.b2 * at.alpha_s * x_0) / at.sigma_t**2
            spread = at.sigma_s * jnp.sqrt(at.b2) / at.sigma_t
            noise = jr.normal(jr.fold_in(key_noise, i), shape)
            return mean + jnp.where(i == self.n_steps - 1, 0.0, spread) * noise

        return _along(process, self.n_steps, step)(process.prior_sample(key_prior, shape))


class PredictorCorrector(AbstractSampler):
    """Langevin steps at every t, then reverse diffusion to the next (Song et al. 2021, appendix G).

        corrector   x ← x + ε s + √(2ε) z,    ε = 2 a² (snr ‖z‖ / ‖s‖)²
        predictor   x_s = (2 − a) x_t + b² s + b z

    The last step adds no noise: final denoising. Published norms are means over a batch; here they
    are each sample's own, so that a sample does not depend on its neighbours.
    """

    n_steps: int = 1000
    snr: float = 0.16
    corrections: int = 1

    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        shape: tuple[int, ...],
        key: PRNGKeyArray,
    ) -> Example:
        """One sample. **Cost:** `n_steps` (1 + `corrections`) evaluations of the score."""
        key_prior, key_noise = jr.split(key)

        def correct(at: Transition, key: PRNGKeyArray, x: Example) -> Example:
            z, s = jr.normal(key, shape), score(x, at.t)
            size = 2 * (at.a * self.snr) ** 2 * jnp.sum(z**2) / jnp.sum(s**2)
            return x + size * s + jnp.sqrt(2 * size) * z

        def step(at: Transition, i: Array, x: Example) -> Example:
            key, *keys = jr.split(jr.fold_in(key_noise, i), 1 + self.corrections)
            for each in keys:
                x = correct(at, each, x)
            mean = (2 - at.a) * x + at.b2 * score(x, at.t)
            spread = jnp.where(i == self.n_steps - 1, 0.0, jnp.sqrt(at.b2))
            return mean + spread * jr.normal(key, shape)

        return _along(process, self.n_steps, step)(process.prior_sample(key_prior, shape))


class DPMSolver(AbstractSampler):
    """DPM-Solver++(2M): the ODE in few steps, equal in log-SNR (Lu et al. 2022).

        x_s = (σ_s / σ_t) x_t − α_s (e^−h − 1) ((1 + 1/2r) x̂_0 − 1/2r x̂_0'),  h half the step in λ,

    with x̂_0' of the step before and r the ratio of both steps, here 1. Second order.
    """

    n_steps: int = 20

    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        shape: tuple[int, ...],
        key: PRNGKeyArray,
    ) -> Example:
        """One sample of this shape. **Cost:** `n_steps` evaluations of the score."""
        return self.from_latent(score, process, process.prior_sample(key, shape))

    def from_latent(self, score: ScoreFunction, process: AbstractProcess, x_T: Example) -> Example:
        """The x_0 that the steps carry x_T to."""
        low, high = process.log_snr_range(x_T.dtype)
        times = jax.vmap(process.t_of_log_snr)(jnp.linspace(low, high, self.n_steps + 1))
        h = (high - low) / (2 * self.n_steps)

        def step(carry: tuple[Example, Example], i: Array) -> tuple[tuple[Example, Example], None]:
            x, before = carry
            at = Transition.of(process, times[i], times[i + 1])
            x_0 = at.data(score(x, at.t), x)
            ahead = jnp.where(i == 0, x_0, 1.5 * x_0 - 0.5 * before)
            x = at.sigma_s / at.sigma_t * x - at.alpha_s * jnp.expm1(-h) * ahead
            return (x, x_0), None

        return jax.lax.scan(step, (x_T, x_T), jnp.arange(self.n_steps))[0][0]
