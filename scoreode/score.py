r"""Score models: how a network and a process together give a score.

The network gets the input x_t / √(α² + σ²), which has unit variance, and the log-SNR. It never gets
t, so any network works with any process. A parametrisation reads the network's output F as the
noise ε, the data x_0, the velocity or the score itself. All four carry the same information,

    s = −ε̂ / σ = (α x̂_0 − x_t) / σ²,

but turn the network's errors into different errors of the score. In normalised coordinates, with
ᾱ = α / √(α² + σ²) and σ̄ = σ / √(α² + σ²), the velocity is v = ᾱ ε − σ̄ x_0. Its target has unit
variance at every t, and F = 0 gives the exact score of Gaussian data. This is the preconditioning
of Karras et al. (2022) for any linear process, and the default.
"""

import abc
from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Example, Network, Scalar
from scoreode.network import CellNoise, Masked
from scoreode.process import AbstractProcess

_FADING = 2.0  # F is a fortieth at 1.5 radii


class AbstractParametrisation(eqx.Module):
    """Reads a network's output F as a score."""

    @abc.abstractmethod
    def score(self, F: Example, x: Example, alpha: Scalar, sigma: Scalar) -> Example:
        """s(x_t, t), of the shape of x, from F, x_t, α_t and σ_t."""


class Noise(AbstractParametrisation):
    """F = ε̂: s = −F / σ (Ho et al. 2020)."""

    def score(self, F: Example, x: Example, alpha: Scalar, sigma: Scalar) -> Example:
        return -F / sigma


class Data(AbstractParametrisation):
    """F = x̂_0: s = (α F − x_t) / σ²."""

    def score(self, F: Example, x: Example, alpha: Scalar, sigma: Scalar) -> Example:
        return (alpha * F - x) / sigma**2


class Velocity(AbstractParametrisation):
    """F = v̂ = ᾱ ε̂ − σ̄ x̂_0: s = −x_t / (α² + σ²) − (ᾱ / σ) F (Karras et al. 2022)."""

    def score(self, F: Example, x: Example, alpha: Scalar, sigma: Scalar) -> Example:
        scale = jnp.hypot(alpha, sigma)
        return -x / scale**2 - alpha / (sigma * scale) * F


class Score(AbstractParametrisation):
    """F = ŝ: the network's output is the score."""

    def score(self, F: Example, x: Example, alpha: Scalar, sigma: Scalar) -> Example:
        return F


class ScoreModel(eqx.Module):
    """s_θ(x, t) ≈ ∇log q_t(x) for one standardised example; a conditional model: ∇log q_t(x | c).

    The diffusion acts on x only, so for a fixed c everything works as without conditions:
    `condition_on(c)` is a function of (x, t), which objectives match and flows integrate. `noise`
    is the trained dequantisation noise for data on a grid, if the model has one. It is no part of
    the score.

    Beyond `radius`, in y = x_t / √(α² + σ²), no training row came near, and what a network makes of
    it may drive the ODE to infinity. There F goes to 0, smoothly and within half a radius.

    **Cost:** one network evaluation.
    """

    process: AbstractProcess
    parametrisation: AbstractParametrisation
    network: Network
    c: Float[Array, " k"] | None = None
    noise: CellNoise | None = None
    radius: float | None = None

    def __call__(self, x: Example, t: Scalar) -> Example:
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        conditions = () if self.c is None else (self.c,)
        y, log_snr = x / jnp.hypot(alpha, sigma), self.process.log_snr(t)
        F = self.network(y, log_snr, *conditions)
        if self.radius is not None:
            if isinstance(self.network, Masked) and self.c is not None:
                y = self.network.diffused(self.c) * y
            beyond = jnp.maximum(jnp.sum(y**2) / self.radius**2 - 1, 0)
            F = F / (1 + (_FADING * beyond) ** 4)
        return self.parametrisation.score(F, x, alpha, sigma)

    @property
    def hidden_size(self) -> int:
        """Number of values in the network's largest hidden state; 0 if the network does not say."""
        return getattr(self.network, "hidden_size", 0)

    def condition_on(self, c: Float[Array, " k"]) -> Self:
        """s_θ(·, · | c) for one standardised c."""
        return type(self)(self.process, self.parametrisation, self.network, c, radius=self.radius)

    def with_dropout(self, key: PRNGKeyArray) -> Self:
        """The score model with this key's dropout mask; itself if the network has no dropout."""
        network_with_dropout = getattr(self.network, "with_dropout", None)
        if network_with_dropout is None:
            return self
        return eqx.tree_at(lambda model: model.network, self, network_with_dropout(key))


def with_dropout(score: Any, key: PRNGKeyArray) -> Any:
    """`score.with_dropout(key)` for a `ScoreModel`; any other score unchanged."""
    return score.with_dropout(key) if isinstance(score, ScoreModel) else score


def condition_on(score: Any, c: Float[Array, " k"] | None) -> Any:
    """`score.condition_on(c)`; the score unchanged if c is None."""
    return score if c is None else score.condition_on(c)


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
    """The network's output F, and the scales ᾱ/σ and √(α² + σ²)."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    scale = jnp.hypot(alpha, sigma)
    return network(x / scale, process.log_snr(t)), alpha / (sigma * scale), scale


class Given(eqx.Module):
    """Wraps a function of (score, …) as one of (score, …, c), where c is the condition or None."""

    function: Callable

    def __call__(self, score: Any, *arguments: Any) -> Any:
        *others, c = arguments
        return self.function(condition_on(score, c), *others)
