"""Embeddings of the noise level as published networks have them: NCSN++, DDPM++ and DDPM."""

import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from scoreode._typing import Scalar
from scoreode.steps import Steps

Embedding = Float[Array, " level"]
_BETA = 0.1, 20.0  # of the published VP process, whose time DDPM++ takes as input


class FourierOfLogSigma(eqx.Module):
    """(sin, cos)(2π w log(σ/α)), with w ~ N(0, 16²) sampled once and not trained."""

    w: Float[Array, " m"]
    log_unit: float = eqx.field(static=True)

    @property
    def size(self) -> int:
        """The number of features."""
        return 2 * self.w.size

    def __call__(self, log_snr: Scalar) -> Embedding:
        log_sigma = -log_snr / 2 - self.log_unit
        phase = 2 * jnp.pi * lax.stop_gradient(self.w) * log_sigma
        return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)])


class SinusoidsOfTime(eqx.Module):
    """(sin, cos)(999 t 10000^(−i/(m−1))), where t is the published VP's time for this log-SNR."""

    m: int = eqx.field(static=True)

    @property
    def size(self) -> int:
        """The number of features."""
        return 2 * self.m

    def __call__(self, log_snr: Scalar) -> Embedding:
        # −2 log α = β_0 t + (β_1 − β_0) t²/2, and α² = sigmoid(log-SNR).
        low, high = _BETA
        c = 2 * (high - low) * jax.nn.softplus(-log_snr)
        t = c / (high - low) / (jnp.sqrt(low**2 + c) + low)
        rates = jnp.exp(-math.log(10_000) / (self.m - 1) * jnp.arange(self.m, dtype=log_snr.dtype))
        phase = 999 * t * rates
        return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)])


@dataclass(frozen=True)
class SinusoidsOfStep:
    """(sin, cos)(i r_j), r_j = 10000^(−j/(m − shift)), where i is the step with this log-SNR.

    `cosine_first` gives (cos, sin); i is counted in units of so many steps.
    """

    m: int
    steps: Steps
    cosine_first: bool
    shift: int
    unit: float = 1.0

    def __call__(self, log_snr: Scalar) -> Embedding:
        j = jnp.arange(self.m, dtype=log_snr.dtype)
        rates = jnp.exp(-math.log(10_000) / (self.m - self.shift) * j)
        phase = self.steps.index(log_snr) / self.unit * rates
        parts = jnp.sin(phase), jnp.cos(phase)
        return jnp.concatenate(parts[::-1] if self.cosine_first else parts)
