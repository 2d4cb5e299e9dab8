r"""The weight λ(t) of an objective, and the density from which t is sampled.

Every objective here is an integral over time of a term such as ‖σ s + ε‖². There are two weights,
both with ∫ λ dt = 1:

- the paper's: uniform in t ("noise prediction");
- the likelihood's (Song et al. 2021), ½ ∫ g² ‖s − ∇log q_0t‖² dt = ½ ∫ (g²/σ²) ‖σ s + ε‖² dt.
  It is uniform in the log-SNR λ, because dλ/dt = −g²/σ². The constant ½ (λ_0 − λ_T), which turns
  the mean into nats, is dropped. For VE the two weights are the same.

The density of t is a separate choice. With importance weights any density gives the same integral;
it only changes the variance of the estimate. Weight and density belong to one object, because a
density without its importance weights gives a biased estimate. `stratified` times lie on a grid
with one random offset (Kingma et al. 2021). Each of them is unbiased, and every regular subset of a
batch is stratified too.
"""

import abc
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode.process import AbstractProcess

Times = Float[Array, " n"]


def _uniform(key: PRNGKeyArray, n: int, stratified: bool) -> Times:
    """n draws from [0, 1)."""
    if not stratified:
        return jr.uniform(key, (n,))
    return (jr.uniform(key) + jnp.arange(n) / n) % 1


class AbstractWeighting(eqx.Module):
    """Samples times and importance weights, so that a weighted mean estimates the integral."""

    @abc.abstractmethod
    def sample(self, process: AbstractProcess, key: PRNGKeyArray, n: int) -> tuple[Times, Times]:
        """Times t and weights w, each of shape (n,), with E[w h(t)] = ∫ λ(t) h(t) dt."""

    @abc.abstractmethod
    def update(self, process: AbstractProcess, t: Times, terms: Times) -> Self:
        """The weighting after a batch with these times and unweighted terms."""


class UniformTime(AbstractWeighting):
    """The paper's weight, uniform in t over [t_min, T]; t is sampled from it."""

    stratified: bool = True

    def sample(self, process: AbstractProcess, key: PRNGKeyArray, n: int) -> tuple[Times, Times]:
        t = process.t_min + (process.t_max - process.t_min) * _uniform(key, n, self.stratified)
        return t, jnp.ones_like(t)

    def update(self, process: AbstractProcess, t: Times, terms: Times) -> Self:
        return self


class Likelihood(AbstractWeighting):
    """The likelihood's weight; t is importance-sampled from it or (for comparison) uniform."""

    importance: bool = True
    stratified: bool = True

    def sample(self, process: AbstractProcess, key: PRNGKeyArray, n: int) -> tuple[Times, Times]:
        u = _uniform(key, n, self.stratified)
        low, high = process.log_snr_range(u.dtype)
        if self.importance:
            t = jax.vmap(process.t_of_log_snr)(low + (high - low) * u)
            return t, jnp.ones_like(t)
        span = process.t_max - process.t_min
        t = process.t_min + span * u
        return t, -span * jax.vmap(jax.grad(process.log_snr))(t) / (high - low)

    def update(self, process: AbstractProcess, t: Times, terms: Times) -> Self:
        return self


_BINS = 40  # of the log-SNR's range: fine enough for any network's error profile
_FLOOR = 0.15  # share of times sampled uniformly, so that no weight exceeds 1 / 0.15
_FORGETTING = 0.01  # weight of one new term in a bin's mean square
_MOST = 20.0  # at most this many terms of a batch count for a bin


class AdaptiveLikelihood(AbstractWeighting):
    """The likelihood's weight; t is sampled in proportion to the root mean square of the terms.

    This density gives the weighted mean its least variance. Training tracks the mean squares in
    bins of the log-SNR. The estimate is unbiased for any values of the bins.
    """

    mean_square: Float[Array, " bins"] = eqx.field(default_factory=lambda: jnp.ones(_BINS))
    stratified: bool = True

    def _probabilities(self) -> Float[Array, " bins"]:
        size = jnp.sqrt(jnp.maximum(self.mean_square, 1e-4))
        return _FLOOR / _BINS + (1 - _FLOOR) * size / jnp.sum(size)

    def sample(self, process: AbstractProcess, key: PRNGKeyArray, n: int) -> tuple[Times, Times]:
        u = _uniform(key, n, self.stratified)
        probabilities = self._probabilities().astype(u.dtype)
        edges = jnp.linspace(0, 1, _BINS + 1)
        cumulative = jnp.concatenate([jnp.zeros(1, u.dtype), jnp.cumsum(probabilities)])
        place = jnp.interp(u, cumulative / cumulative[-1], edges)
        low, high = process.log_snr_range(u.dtype)
        t = jax.vmap(process.t_of_log_snr)(low + (high - low) * place)
        return t, 1 / (_BINS * probabilities[_bin(place)])

    def update(self, process: AbstractProcess, t: Times, terms: Times) -> Self:
        low, high = process.log_snr_range(t.dtype)
        bins = _bin((jax.vmap(process.log_snr)(t) - low) / (high - low))
        count = jnp.zeros(_BINS, t.dtype).at[bins].add(1.0)
        total = jnp.zeros(_BINS, t.dtype).at[bins].add(terms**2)
        rate = _FORGETTING * jnp.minimum(count, _MOST)
        mean = total / jnp.maximum(count, 1.0)
        mean_square = self.mean_square + rate * (mean - self.mean_square)
        return eqx.tree_at(lambda weighting: weighting.mean_square, self, mean_square)


def _bin(place: Times) -> Array:
    return jnp.clip((place * _BINS).astype(jnp.int32), 0, _BINS - 1)
