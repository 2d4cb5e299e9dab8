r"""How the integral over t is taken: the weight λ(t) and the density that t is drawn from.

Every objective here is an integral of a term, such as ‖σ s + ε‖², over time. Two weights are in
use, both with ∫ λ dt = 1:

- the paper's: uniform in t ("noise prediction");
- the likelihood's (Song et al. 2021), ½ ∫ g² ‖s − ∇log q_0t‖² dt = ½ ∫ (g²/σ²) ‖σ s + ε‖² dt.
  As dλ/dt = −g²/σ² for the log-SNR λ, it is uniform in the log-SNR. Left out is the constant
  ½ (λ_0 − λ_T), by which a mean becomes nats. For VE the two weights are the same.

The density that t is drawn from is another choice: any that is compensated by a weight leaves the
integral what it is and changes the noise of its estimate. Weight and density are one object, as
one without the other is a bias. `stratified` draws stand on a grid with one common random offset
(Kingma et al. 2021), unbiased for every single index, so that any regular part of a batch is
itself well spread.
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
    """Draws times and the weights that make a mean over draws the intended integral."""

    @abc.abstractmethod
    def sample(self, process: AbstractProcess, key: PRNGKeyArray, n: int) -> tuple[Times, Times]:
        """(t, w), each of shape (n,), such that E[w h(t)] = ∫ λ(t) h(t) dt."""

    @abc.abstractmethod
    def updated(self, process: AbstractProcess, t: Times, terms: Times) -> Self:
        """The weighting that follows a batch whose unweighted terms were these."""


class UniformTime(AbstractWeighting):
    """The paper's weight, uniform in t over [t_min, T]; t is drawn from it."""

    stratified: bool = True

    def sample(self, process: AbstractProcess, key: PRNGKeyArray, n: int) -> tuple[Times, Times]:
        t = process.t_min + (process.t_max - process.t_min) * _uniform(key, n, self.stratified)
        return t, jnp.ones_like(t)

    def updated(self, process: AbstractProcess, t: Times, terms: Times) -> Self:
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

    def updated(self, process: AbstractProcess, t: Times, terms: Times) -> Self:
        return self


_BINS = 40  # of the log-SNR's range: fine enough for any network's error profile
_FLOOR = 0.15  # share of draws that stay uniform: no weight exceeds 1 / 0.15
_FORGETTING = 0.01  # weight of one new term in a bin's mean square
_MOST = 20.0  # terms of one batch that count for a bin


class AdaptiveLikelihood(AbstractWeighting):
    """The likelihood's weight; t is drawn where the terms are large, and divided by its density.

    The variance of a weighted mean is least when draws are in proportion to the root mean square
    of the terms. It is tracked in bins of the log-SNR as training goes; the estimate stays unbiased
    whatever the bins hold.
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

    def updated(self, process: AbstractProcess, t: Times, terms: Times) -> Self:
        low, high = process.log_snr_range(t.dtype)
        bins = _bin((jax.vmap(process.log_snr)(t) - low) / (high - low))
        count = jnp.zeros(_BINS, t.dtype).at[bins].add(1.0)
        total = jnp.zeros(_BINS, t.dtype).at[bins].add(terms**2)
        rate = _FORGETTING * jnp.minimum(count, _MOST)
        mean = total / jnp.maximum(count, 1.0)
        moved = self.mean_square + rate * (mean - self.mean_square)
        return eqx.tree_at(lambda weighting: weighting.mean_square, self, moved)


def _bin(place: Times) -> Array:
    return jnp.clip((place * _BINS).astype(jnp.int32), 0, _BINS - 1)
