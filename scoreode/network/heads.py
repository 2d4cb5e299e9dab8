r"""Heads: they turn a network's output vector into a symmetric matrix or a number.

    SymmetricHead   the d (d + 1) / 2 entries on and below the diagonal
    LowRankHead     diag(a) + V diag(b) Vᵀ with V of shape (d, r): d + r + d r entries, any sign
    TraceHead       Σ_i F_i

A network has as many outputs as inputs, so x is padded with zeros to the number of entries.
"""

from typing import Self

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Example, Network, Scalar
from scoreode.network.mlp import MLP


def _entries(network: Network, x: Example, log_snr: Scalar, n: int) -> Float[Array, " n"]:
    return network(jnp.pad(x.ravel(), (0, n - x.size)), log_snr)


class SymmetricHead(eqx.Module):
    """F(x, λ), any symmetric (d, d) matrix."""

    network: Network

    @classmethod
    def build(cls, d: int, spec: MLP, key: PRNGKeyArray) -> Self:
        """A newly initialised network for vectors of dimension d."""
        return cls(spec.build((d * (d + 1) // 2,), key))

    def __call__(self, x: Example, log_snr: Scalar) -> Float[Array, "d d"]:
        rows, columns = np.tril_indices(x.size)
        entries = _entries(self.network, x, log_snr, rows.size)
        lower = jnp.zeros((x.size, x.size), x.dtype).at[rows, columns].set(entries)
        return lower + jnp.tril(lower, -1).T


class LowRankHead(eqx.Module):
    """F(x, λ) = diag(a) + V diag(b) Vᵀ; the network gives a, b and V − V_0.

    V_0 is trained and starts at random values: at V = b = 0 all gradients except a's would vanish.
    """

    network: Network
    V_0: Float[Array, "d r"]

    @classmethod
    def build(cls, d: int, rank: int, spec: MLP, key: PRNGKeyArray) -> Self:
        """A newly initialised network for vectors of dimension d."""
        key_network, key_V = jr.split(key)
        network = spec.build((d + rank + d * rank,), key_network)
        return cls(network, jr.normal(key_V, (d, rank)) / np.sqrt(d))

    def __call__(self, x: Example, log_snr: Scalar) -> Float[Array, "d d"]:
        d, rank = self.V_0.shape
        entries = _entries(self.network, x, log_snr, d + rank + d * rank)
        a, b, V = jnp.split(entries, (d, d + rank))
        V = self.V_0.astype(x.dtype) + V.reshape(d, rank)
        return jnp.diag(a) + V @ (b[:, None] * V.T)


class TraceHead(eqx.Module):
    """Σ_i F_i(x, λ), a number: the trace of diag(F)."""

    network: Network

    @classmethod
    def build(cls, d: int, spec: MLP, key: PRNGKeyArray) -> Self:
        """A newly initialised network for vectors of dimension d."""
        return cls(spec.build((d,), key))

    def __call__(self, x: Example, log_snr: Scalar) -> Scalar:
        return jnp.sum(self.network(x, log_snr))
