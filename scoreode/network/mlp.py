"""A residual multilayer perceptron for vectors, conditioned on the log-SNR.

Each block is h ← h + W2 φ((1 + γ) ⊙ (W1 φ(h) + b1) + β), where the scale γ and the shift β depend
on the noise level (FiLM, Perez et al. 2018). The readout starts near zero, so training starts at
F = 0: for the velocity, the score of Gaussian data.

Random Fourier features of the input (Tancik et al. 2020) let a smooth network fit sharp edges. The
activation is smooth because the objective of order 3 differentiates it four times.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar

Layer = TypeVar("Layer", bound=eqx.nn.Linear | eqx.nn.Conv2d)
LEVELS = np.arange(-16.0, 17.0)  # log-SNRs one nat apart, the scale on which a score changes


class FourierFeatures(eqx.Module):
    """x -> (cos, sin)(2π B x), with B ~ N(0, bandwidth²) sampled once and not trained."""

    B: Float[Array, "m d"]

    def __init__(self, d: int, m: int, bandwidth: float, key: PRNGKeyArray):
        self.B = bandwidth * jr.normal(key, (m, d))

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " features"]:
        phase = 2 * jnp.pi * jax.lax.stop_gradient(self.B) @ x
        return jnp.concatenate([jnp.cos(phase), jnp.sin(phase)])


def level_features(log_snr: Scalar) -> Float[Array, " levels"]:
    """Gaussian bumps of width one nat, centred at `LEVELS`: features local in the noise level."""
    return jnp.exp(-0.5 * (log_snr - LEVELS.astype(log_snr.dtype)) ** 2)


def with_level(
    log_snr: Scalar, c: Float[Array, " k"] | None = None
) -> Float[Array, " levels_and_k"]:
    """The network's inputs besides x: the features of the noise level, and the conditions."""
    level = level_features(log_snr)
    return level if c is None else jnp.concatenate([level, c])


def with_weight(layer: Layer, weight: Array) -> Layer:
    """The layer with these weights and zero biases; only its shapes are used."""
    where = lambda layer: (layer.weight, layer.bias)  # noqa: E731
    zeros = jax.tree.map(lambda bias: jnp.zeros(bias.shape, bias.dtype), layer.bias)
    return eqx.tree_at(where, layer, (weight, zeros))


def linear(n_in: int, n_out: int, gain: float, key: PRNGKeyArray) -> eqx.nn.Linear:
    """Weights of standard deviation gain / √n_in (LeCun for gain 1), biases at zero."""
    layer = eqx.filter_eval_shape(eqx.nn.Linear, n_in, n_out, key=key)
    return with_weight(layer, gain / math.sqrt(n_in) * jr.normal(key, (n_out, n_in)))


class ResidualBlock(eqx.Module):
    """h ← h + W2 φ((1 + γ) ⊙ (W1 φ(h) + b1) + β)."""

    first: eqx.nn.Linear
    last: eqx.nn.Linear

    def __init__(self, width: int, key: PRNGKeyArray):
        key_first, key_last = jr.split(key)
        self.first = linear(width, width, 1.0, key_first)
        self.last = linear(width, width, 0.3, key_last)

    def __call__(self, h: Float[Array, " w"], film: Float[Array, " 2*w"]) -> Float[Array, " w"]:
        gamma, beta = jnp.split(film, 2)
        return h + self.last(jax.nn.gelu((1 + gamma) * self.first(jax.nn.gelu(h)) + beta))


class ResidualMLP(eqx.Module):
    """F(x, λ) for vectors x of dimension d; see the module."""

    features: FourierFeatures | None
    film: eqx.nn.Linear
    embed: eqx.nn.Linear
    blocks: tuple[ResidualBlock, ...]
    readout: eqx.nn.Linear

    def __init__(self, d: int, spec: "MLP", key: PRNGKeyArray, n_conditions: int = 0):
        w, m = spec.width, spec.n_features
        key_blocks, *keys = jr.split(key, 5)
        keys = iter(keys)
        key_features = next(keys)
        self.features = FourierFeatures(d, m, spec.bandwidth, key_features) if m else None
        n_level = LEVELS.size
        self.film = linear(n_level + n_conditions, 2 * w * spec.depth, 0.1, next(keys))
        self.embed = linear(d + 2 * m + n_level + n_conditions, w, 1.0, next(keys))
        self.readout = linear(w, d, 0.01, next(keys))
        self.blocks = tuple(ResidualBlock(w, k) for k in jr.split(key_blocks, spec.depth))

    def __call__(
        self, x: Float[Array, " d"], log_snr: Scalar, c: Float[Array, " k"] | None = None
    ) -> Float[Array, " d"]:
        level = with_level(log_snr, c)
        # Behind a barrier: else XLA takes the slower of two equal products for W's gradient.
        weight = jax.lax.optimization_barrier(self.film.weight.T)
        film = jnp.split(level @ weight + self.film.bias, len(self.blocks))
        x_features = [] if self.features is None else [self.features(x)]
        h = self.embed(jnp.concatenate([x, *x_features, level]))
        for block, modulation in zip(self.blocks, film, strict=True):
            h = block(h, modulation)
        return self.readout(jax.nn.gelu(h))


@dataclass(frozen=True)
class MLP:
    """The specification of a `ResidualMLP`.

    **Arguments:** `width` of the hidden layers; `depth`, the number of residual blocks;
    `n_features`, the number of random Fourier features of x (0: none); `bandwidth`, the standard
    deviation of their frequencies in cycles per standard deviation of the input.
    """

    conditional: ClassVar[bool] = True
    for_images: ClassVar[bool] = False

    width: int = 128
    depth: int = 4
    n_features: int = 0
    bandwidth: float = 1.0

    def hidden_values(self, d: int) -> int:  # noqa: ARG002 (its layers have one width for all d)
        """Those of its blocks."""
        return self.width * self.depth

    def build(
        self, shape: tuple[int, ...], key: PRNGKeyArray, n_conditions: int = 0
    ) -> ResidualMLP:
        """A newly initialised network for examples of shape (d,) with `n_conditions` conditions."""
        (d,) = shape
        return ResidualMLP(d, self, key, n_conditions)
