"""Samplers: discretisations of the ODE and of the reverse SDE, both started from the prior.

    ODE   dx = (f − ½ g² s) dt           ODESampler, DPMSolver
    SDE   dx = (f − g² s) dt + g dw̄      EulerMaruyama, Ancestral, PredictorCorrector

With the exact score both have the data's marginals. With a learned score they are two different
models, and `log_likelihood` is the ODE's. For all of them, `sampler(score, process, shape, key)` is
one sample at t_min.
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from equinox import AbstractVar
from jaxtyping import Array, PRNGKeyArray

from scoreode._typing import Example, Scalar, ScoreFunction
from scoreode.flow.ode import Solver, velocity
from scoreode.process import AbstractProcess


class AbstractSampler(eqx.Module):
    """A sampler of x_0."""

    @abc.abstractmethod
    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        shape: tuple[int, ...],
        key: PRNGKeyArray,
    ) -> Example:
        """One sample of this shape."""


class AbstractODESampler(AbstractSampler):
    """Maps x_T ~ p_T to x_0 by the probability-flow ODE."""

    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        shape: tuple[int, ...],
        key: PRNGKeyArray,
    ) -> Example:
        """One sample of this shape. **Cost:** that of `from_latent`."""
        return self.from_latent(score, process, process.prior_sample(key, shape))

    @abc.abstractmethod
    def from_latent(self, score: ScoreFunction, process: AbstractProcess, x_T: Example) -> Example:
        """The x_0 to which the sampler maps x_T."""


class ODESampler(AbstractODESampler):
    """Samples of p_0^ODE, exact up to the solver's tolerance."""

    solver: Solver = Solver()

    def from_latent(self, score: ScoreFunction, process: AbstractProcess, x_T: Example) -> Example:
        """The x_0 to which the ODE maps x_T. **Cost:** the solver's number of evaluations."""

        def field(t: Scalar, x: Example) -> Example:
            return velocity(score, process, x, t)

        return self.solver(field, x_T, process.t_max, process.t_min)[0]


class Transition(NamedTuple):
    """A step from t to an earlier s: q(x_t | x_s) = N(a x_s, b² I), and α and σ at both times."""

    t: Scalar
    s: Scalar
    a: Scalar
    b2: Scalar
    alpha_s: Scalar
    sigma_s: Scalar
    alpha_t: Scalar
    sigma_t: Scalar

    @classmethod
    def between(cls, process: AbstractProcess, t: Scalar, s: Scalar) -> "Transition":
        alpha_s, sigma_s = process.alpha(s), process.sigma(s)
        alpha_t, sigma_t = process.alpha(t), process.sigma(t)
        a = alpha_t / alpha_s
        return cls(t, s, a, sigma_t**2 - (a * sigma_s) ** 2, alpha_s, sigma_s, alpha_t, sigma_t)

    def data(self, score: Example, x: Example) -> Example:
        """x̂_0 = (x_t + σ_t² s) / α_t."""
        return (x + self.sigma_t**2 * score) / self.alpha_t


class AbstractSDESampler(AbstractSampler):
    """`n_steps` steps of the reverse SDE from x_T ~ p_T, equal in t; the last adds no noise."""

    n_steps: AbstractVar[int]

    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        shape: tuple[int, ...],
        key: PRNGKeyArray,
    ) -> Example:
        """One sample of this shape. **Cost:** that of `n_steps` steps."""
        key_prior, key_noise = jr.split(key)
        times = jnp.linspace(process.t_max, process.t_min, self.n_steps + 1)

        def body(x: Example, i: Array) -> tuple[Example, None]:
            at = Transition.between(process, times[i], times[i + 1])
            mean, noise = self.step(score, process, at, jr.fold_in(key_noise, i), x)
            return mean + jnp.where(i == self.n_steps - 1, 0.0, noise), None

        x_T = process.prior_sample(key_prior, shape)
        return jax.lax.scan(body, x_T, jnp.arange(self.n_steps))[0]

    @abc.abstractmethod
    def step(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        at: Transition,
        key: PRNGKeyArray,
        x: Example,
    ) -> tuple[Example, Example]:
        """The mean of x_s given x_t = x, and the noise to add to it."""


class EulerMaruyama(AbstractSDESampler):
    """Euler–Maruyama steps of the reverse SDE. The weak error is of first order in the step."""

    n_steps: int = 1000

    def step(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        at: Transition,
        key: PRNGKeyArray,
        x: Example,
    ) -> tuple[Example, Example]:
        """x − (f − g² s) dt, and g √dt z. **Cost:** one evaluation."""
        dt, g2 = at.t - at.s, process.g2(at.t)
        mean = x - dt * (process.drift(x, at.t) - g2 * score(x, at.t))
        return mean, jnp.sqrt(g2 * dt) * jr.normal(key, x.shape)


class Ancestral(AbstractSDESampler):
    """Samples from q(x_s | x_t, x̂_0) (Ho et al. 2020; for VE Song et al. 2021).

    x_s = (a σ_s² x_t + b² α_s x̂_0) / σ_t² + (σ_s b / σ_t) z
    """

    n_steps: int = 1000

    def step(
        self,
        score: ScoreFunction,
        process: AbstractProcess,  # noqa: ARG002 (the transition has all that is needed)
        at: Transition,
        key: PRNGKeyArray,
        x: Example,
    ) -> tuple[Example, Example]:
        """The mean and the noise of x_s. **Cost:** one evaluation."""
        x_0 = at.data(score(x, at.t), x)
        mean = (at.a * at.sigma_s**2 * x + at.b2 * at.alpha_s * x_0) / at.sigma_t**2
        return mean, at.sigma_s * jnp.sqrt(at.b2) / at.sigma_t * jr.normal(key, x.shape)


class PredictorCorrector(AbstractSDESampler):
    """Langevin steps at every t, then reverse diffusion to the next (Song et al. 2021, appendix G).

        corrector   x ← x + ε s + √(2ε) z,    ε = 2 a² (snr ‖z‖ / ‖s‖)²
        predictor   x_s = (2 − a) x_t + b² s + b z

    The last step, without noise, is the published final denoising. The published norms are means
    over a batch. Here they are those of each sample, so that samples do not depend on each other.
    """

    n_steps: int = 1000
    snr: float = 0.16
    corrections: int = 1

    def step(
        self,
        score: ScoreFunction,
        process: AbstractProcess,  # noqa: ARG002 (the transition has all that is needed)
        at: Transition,
        key: PRNGKeyArray,
        x: Example,
    ) -> tuple[Example, Example]:
        """The mean and the noise of the predictor. **Cost:** 1 + `corrections` evaluations."""
        key, *keys = jr.split(key, 1 + self.corrections)
        for key_z in keys:
            z, s = jr.normal(key_z, x.shape), score(x, at.t)
            size = 2 * (at.a * self.snr) ** 2 * jnp.sum(z**2) / jnp.sum(s**2)
            x = x + size * s + jnp.sqrt(2 * size) * z
        mean = (2 - at.a) * x + at.b2 * score(x, at.t)
        return mean, jnp.sqrt(at.b2) * jr.normal(key, x.shape)


class DPMSolver(AbstractODESampler):
    """DPM-Solver++(2M): the ODE in few steps, equal in log-SNR (Lu et al. 2022).

        x_s = (σ_s / σ_t) x_t − α_s (e^−h − 1) ((1 + 1/2r) x̂_0 − 1/2r x̂_0'), h half the step in λ,

    where x̂_0' is from the previous step and r, the ratio of the two steps, is 1. Second order.
    """

    n_steps: int = 20

    def from_latent(self, score: ScoreFunction, process: AbstractProcess, x_T: Example) -> Example:
        """The x_0 to which the steps map x_T. **Cost:** `n_steps` evaluations of the score."""
        low, high = process.log_snr_range(x_T.dtype)
        times = jax.vmap(process.t_of_log_snr)(jnp.linspace(low, high, self.n_steps + 1))
        h = (high - low) / (2 * self.n_steps)

        def step(carry: tuple[Example, Example], i: Array) -> tuple[tuple[Example, Example], None]:
            x, before = carry
            at = Transition.between(process, times[i], times[i + 1])
            x_0 = at.data(score(x, at.t), x)
            extrapolation = jnp.where(i == 0, x_0, 1.5 * x_0 - 0.5 * before)
            x = at.sigma_s / at.sigma_t * x - at.alpha_s * jnp.expm1(-h) * extrapolation
            return (x, x_0), None

        return jax.lax.scan(step, (x_T, x_T), jnp.arange(self.n_steps))[0][0]
