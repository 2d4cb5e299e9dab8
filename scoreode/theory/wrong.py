r"""A score plus a known error, for checks of the theorems.

    s(x, t) + (size / σ_t) sin(W x / S_t + φ),    S = √(α² + σ²)

The error is smooth, bounded and not a gradient. In units of the noise, where −σ s is ε̂, it has the
same size at every t: mean square ½ size² per dimension. So ½ ∫ g² E‖error‖² dt is about
¼ size² d (λ_max − λ_min), with λ the log-SNR.
"""

from typing import Self

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar, ScoreFunction
from scoreode.process import AbstractProcess

Vector = Float[Array, " d"]


class Wrong(eqx.Module):
    """A score plus an error; a `ScoreFunction`."""

    score: ScoreFunction
    process: AbstractProcess
    size: Scalar
    W: Float[Array, "d d"]
    phase: Vector

    @classmethod
    def random(
        cls,
        score: ScoreFunction,
        process: AbstractProcess,
        size: float | Scalar,
        d: int,
        key: PRNGKeyArray,
        frequency: float = 2.0,
    ) -> Self:
        """A random error: entries of W have variance `frequency`²/d, phases are uniform."""
        key_W, key_phase = jr.split(key)
        W = frequency / d**0.5 * jr.normal(key_W, (d, d))
        phase = jr.uniform(key_phase, (d,), maxval=2 * jnp.pi)
        return cls(score, process, jnp.asarray(size), W, phase)

    def __call__(self, x: Vector, t: Scalar) -> Vector:
        """s(x, t) plus the error, shape (d,)."""
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        error = jnp.sin(self.W @ x / jnp.hypot(alpha, sigma) + self.phase)
        return self.score(x, t) + self.size / sigma * error
