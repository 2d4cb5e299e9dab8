r"""Where networks meet a process at orders 2 and 3: models of ∇²log q_t, its trace, ∇tr∇²log q_t.

As in `scoreode.score`, a network sees x_t / √(α² + σ²) and the log-SNR, and F = 0 is the truth for
Gaussian data of variance one, whose derivatives of log q_t are −I/(α² + σ²) and 0:

    s2    = (ᾱ/σ)² F − I / (α² + σ²)
    s2^tr = (ᾱ/σ)² F − d / (α² + σ²)
    s3    = (ᾱ/σ)³ F,                      ᾱ = α / √(α² + σ²).

Beside −I/σ² the derivative of order k is (α/σ²)^k times the k-th cumulant of x_0 given x_t, whose
scale is 1 where noise is high and σ/α where it is low: (ᾱ/σ)^k asks at most order one of F.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoreode._typing import Example, Network, Scalar
from scoreode.process import AbstractProcess


class SecondScoreModel(eqx.Module):
    """s2(x, t) ≈ ∇²log q_t(x), shape (d, d).

    **Cost:** one network evaluation.
    """

    process: AbstractProcess
    network: Callable[[Example, Scalar], Float[Array, "d d"]]

    def __call__(self, x: Example, t: Scalar) -> Float[Array, "d d"]:
        F, gain, scale = _read(self.process, self.network, x, t)
        return gain**2 * F - jnp.eye(x.size, dtype=x.dtype) / scale**2


class TraceModel(eqx.Module):
    """s2^tr(x, t) ≈ tr ∇²log q_t(x).

    **Cost:** one network evaluation.
    """

    process: AbstractProcess
    network: Callable[[Example, Scalar], Scalar]

    def __call__(self, x: Example, t: Scalar) -> Scalar:
        F, gain, scale = _read(self.process, self.network, x, t)
        return gain**2 * F - x.size / scale**2


class ThirdScoreModel(eqx.Module):
    """s3(x, t) ≈ ∇tr ∇²log q_t(x), of the shape of x.

    **Cost:** one network evaluation.
    """

    process: AbstractProcess
    network: Network

    def __call__(self, x: Example, t: Scalar) -> Example:
        F, gain, _ = _read(self.process, self.network, x, t)
        return gain**3 * F


def _read(
    process: AbstractProcess, network: Callable, x: Example, t: Scalar
) -> tuple[Array, Scalar, Scalar]:
    """F, ᾱ/σ and √(α² + σ²)."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    scale = jnp.hypot(alpha, sigma)
    return network(x / scale, process.log_snr(t)), alpha / (sigma * scale), scale
