r"""Diffusion processes: the two curves α_t and σ_t, from which everything else follows.

A linear process takes data x_0 at t = 0 to noise at t = T by

    x_t = α_t x_0 + σ_t ε,    ε ~ N(0, I),

so a process *is* the pair α_t, σ_t. The forward SDE dx = f dt + g dw that has these marginals has

    f(x, t) = (d log α / dt) x,    g² = dσ²/dt − 2 (d log α / dt) σ²,

and the log-SNR λ_t = log(α_t² / σ_t²) satisfies dλ/dt = −g²/σ².

The only constraint is that λ decreases strictly from t_min to t_max. A process does *not* fix the
weighting of the objective, how t is sampled, or what the network predicts.

To add a process, write a final class with the fields t_min and t_max and the two curves, and add
it to `model/config.py` and to `tests/catalogue.py`. The contract tests then cover it.

A process assumes data of unit variance (the model standardises them). The prior's scale
√(α_T² + σ_T²) then matches the second moment of q_T.
"""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from equinox import AbstractVar
from jaxtyping import Array, Int, PRNGKeyArray

from scoreode._typing import Example, Scalar
from scoreode.steps import Steps


class AbstractProcess(eqx.Module):
    """A linear diffusion with curves α_t and σ_t; t runs from t_min (data) to t_max = T (noise)."""

    t_min: AbstractVar[float]
    t_max: AbstractVar[float]

    def __check_init__(self) -> None:
        """Raises `ValueError` unless 0 ≤ t_min < t_max < ∞."""
        _check_order(0 <= self.t_min < self.t_max < math.inf, "t", "min", "max", self)

    @abc.abstractmethod
    def alpha(self, t: Scalar) -> Scalar:
        """α_t, the scale of the signal."""

    @abc.abstractmethod
    def sigma(self, t: Scalar) -> Scalar:
        """σ_t, the scale of the noise."""

    def diffuse(self, x_0: Example, eps: Example, t: Scalar) -> Example:
        """x_t = α_t x_0 + σ_t ε."""
        return self.alpha(t) * x_0 + self.sigma(t) * eps

    def drift_rate(self, t: Scalar) -> Scalar:
        """d log α / dt, the factor of x in f(x, t)."""
        return jax.grad(lambda t: jnp.log(self.alpha(t)))(t)

    def drift(self, x: Example, t: Scalar) -> Example:
        """f(x, t) = (d log α / dt) x."""
        return self.drift_rate(t) * x

    def g2(self, t: Scalar) -> Scalar:
        """g(t)² = dσ²/dt − 2 (d log α / dt) σ², the squared diffusion coefficient."""
        sigma_sq, sigma_sq_rate = jax.value_and_grad(lambda t: self.sigma(t) ** 2)(t)
        return sigma_sq_rate - 2 * self.drift_rate(t) * sigma_sq

    def log_snr(self, t: Scalar) -> Scalar:
        """λ_t = log(α_t² / σ_t²)."""
        return 2 * (jnp.log(self.alpha(t)) - jnp.log(self.sigma(t)))

    def log_snr_range(self, dtype: jnp.dtype | None = None) -> tuple[Scalar, Scalar]:
        """The smallest and the largest log-SNR: λ at T and λ at t_min."""
        return (
            self.log_snr(jnp.asarray(self.t_max, dtype)),
            self.log_snr(jnp.asarray(self.t_min, dtype)),
        )

    def t_of_log_snr(self, log_snr: Scalar) -> Scalar:
        """The t with λ_t = log_snr, clipped to [t_min, t_max]; differentiable.

        Bisection brackets the root. One Newton step then gives the derivative 1 / (dλ/dt).
        """

        def halve(_: Int[Array, ""], bracket: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
            low, high = bracket
            mid = (low + high) / 2
            too_early = self.log_snr(mid) > target
            return jnp.where(too_early, mid, low), jnp.where(too_early, high, mid)

        target = jax.lax.stop_gradient(log_snr)
        bisections = jnp.finfo(log_snr.dtype).nmant + 8  # narrower than the spacing of floats at t
        ends = jnp.asarray(self.t_min, log_snr.dtype), jnp.asarray(self.t_max, log_snr.dtype)
        low, high = jax.lax.fori_loop(0, bisections, halve, ends)
        t, rate = jax.lax.stop_gradient(
            ((low + high) / 2, jax.grad(self.log_snr)((low + high) / 2))
        )
        return jnp.clip(t + (log_snr - self.log_snr(t)) / rate, *ends)

    def prior_scale(self, dtype: Any = None) -> Scalar:
        """√(α_T² + σ_T²), the standard deviation of the prior p_T = N(0, scale² I)."""
        T = jnp.asarray(self.t_max, dtype)
        return jnp.hypot(self.alpha(T), self.sigma(T))

    def prior_log_density(self, x_T: Example) -> Scalar:
        """log p_T(x_T) in nats."""
        scale = self.prior_scale(x_T.dtype)
        log_z = x_T.size * (jnp.log(scale) + 0.5 * jnp.log(2 * jnp.pi).astype(x_T.dtype))
        return -0.5 * jnp.sum((x_T / scale) ** 2) - log_z

    def prior_sample(self, key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any = float) -> Array:
        """x_T ~ p_T, by default in JAX's default precision."""
        return self.prior_scale(dtype) * jr.normal(key, shape, dtype)


class VE(AbstractProcess):
    """Variance exploding: α = 1, σ = σ_min (σ_max / σ_min)^t (Song et al. 2021)."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_min: float = 1e-5
    t_max: float = 1.0

    def __check_init__(self) -> None:
        _check_order(0 < self.sigma_min < self.sigma_max < math.inf, "sigma", "min", "max", self)

    def alpha(self, t: Scalar) -> Scalar:
        return jnp.ones_like(t)

    def sigma(self, t: Scalar) -> Scalar:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def t_of_log_snr(self, log_snr: Scalar) -> Scalar:
        """The t with λ_t = −2 log σ_t = log_snr, clipped to [t_min, t_max]."""
        t = (-log_snr / 2 - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)
        return jnp.clip(t, self.t_min, self.t_max)


def _check_order(valid: bool, name: str, low: str, high: str, process: AbstractProcess) -> None:
    if not valid:
        low, high = (f"{name}_{end} {getattr(process, f'{name}_{end}')}" for end in (low, high))
        raise ValueError(f"{low}, {high}: must be positive and finite, the first below the second")


def _log_alpha_vp(t: Scalar, beta_0: float, beta_1: float) -> Scalar:
    """−½ B(t), where B(t) = β0 t + ½ (β1 − β0) t² is the integral of the linear β."""
    return -0.5 * (beta_0 * t + 0.5 * (beta_1 - beta_0) * t**2)


class VP(AbstractProcess):
    """Variance preserving: α = exp(−½ B(t)), σ² = 1 − α² (Ho et al. 2020; Song et al. 2021)."""

    beta_0: float = 0.1
    beta_1: float = 20.0
    t_min: float = 1e-5
    t_max: float = 1.0

    def __check_init__(self) -> None:
        _check_order(0 < self.beta_0 <= self.beta_1 < math.inf, "beta", "0", "1", self)

    def alpha(self, t: Scalar) -> Scalar:
        return jnp.exp(_log_alpha_vp(t, self.beta_0, self.beta_1))

    def sigma(self, t: Scalar) -> Scalar:
        # expm1, because 1 − α² loses every digit in float32 at t = 1e-5.
        return jnp.sqrt(-jnp.expm1(2 * _log_alpha_vp(t, self.beta_0, self.beta_1)))


class SubVP(AbstractProcess):
    """Sub-variance preserving: α as in VP, σ = 1 − α² (Song et al. 2021)."""

    beta_0: float = 0.1
    beta_1: float = 20.0
    t_min: float = 1e-3
    t_max: float = 1.0

    def __check_init__(self) -> None:
        _check_order(0 < self.beta_0 <= self.beta_1 < math.inf, "beta", "0", "1", self)

    def alpha(self, t: Scalar) -> Scalar:
        return jnp.exp(_log_alpha_vp(t, self.beta_0, self.beta_1))

    def sigma(self, t: Scalar) -> Scalar:
        return -jnp.expm1(2 * _log_alpha_vp(t, self.beta_0, self.beta_1))


class Straight(AbstractProcess):
    """The straight path of rectified flow and flow matching: α = 1 − t, σ = t."""

    t_min: float = 1e-3
    t_max: float = 0.999  # at t = 1 the signal is gone and d log α / dt is infinite

    def alpha(self, t: Scalar) -> Scalar:
        return 1 - t

    def sigma(self, t: Scalar) -> Scalar:
        return t


class Discrete(AbstractProcess):
    """The steps of a discrete diffusion, continued between them: t = i / (n − 1) at step i.

    λ is the cubic spline through the steps' log-SNRs (see `steps.Steps`), α² = sigmoid(λ) and
    σ² = 1 − α². At the steps α² is ᾱ_i.
    """

    steps: Steps = eqx.field(static=True, default=Steps())
    t_min: float = 0.0
    t_max: float = 1.0

    def log_snr(self, t: Scalar) -> Scalar:
        return self.steps.log_snr(t * (self.steps.n - 1))

    def t_of_log_snr(self, log_snr: Scalar) -> Scalar:
        """The t with this λ, clipped to [t_min, t_max]; differentiable."""
        t = self.steps.index(log_snr) / (self.steps.n - 1)
        return jnp.clip(t, self.t_min, self.t_max)

    def alpha(self, t: Scalar) -> Scalar:
        # Not √sigmoid, whose derivative loses every digit near 1.
        return jnp.exp(-0.5 * jax.nn.softplus(-self.log_snr(t)))

    def sigma(self, t: Scalar) -> Scalar:
        return jnp.exp(-0.5 * jax.nn.softplus(self.log_snr(t)))
