r"""Normal laws of rows of which some coordinates are hidden.

With o the coordinates that are there and Q the inverse of Σ_oo, 0 elsewhere,

    E[z | z_o] = m + Σ Q (z − m),   Cov[z | z_o] = Σ − Σ Q Σ.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float, Int

Rows = Float[np.ndarray, "n d"]
Matrix = Float[np.ndarray, "d d"]


class Given(NamedTuple):
    """What rows tell under N(m, Σ): the squared distances (n,) and log det Σ_oo (n,) of what is
    there, the conditional means (n, d), and Q of every pattern (p, d, d)."""

    squares: Float[np.ndarray, " n"]
    log_det: Float[np.ndarray, " n"]
    filled: Rows
    Q: Float[np.ndarray, "p d d"]


@dataclass(frozen=True)
class Observed:
    """Rows z (n, d) in coordinates, 0 where hidden; the patterns of what is `there` (p, d), and the
    number of every row's."""

    z: Rows
    there: Bool[np.ndarray, "p d"]
    numbers: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, z: Rows, there: Bool[np.ndarray, "n d"]) -> Self:
        patterns, numbers = np.unique(there, axis=0, return_inverse=True)
        return cls(np.where(there, z, 0.0), patterns, numbers.ravel())

    def take(self, rows: Int[np.ndarray, " m"]) -> Self:
        """Only these rows."""
        return type(self).of(self.z[rows], self.there[self.numbers[rows]])

    @property
    def known(self) -> Bool[np.ndarray, "n d"]:
        """Which coordinates are there, of every row."""
        return self.there[self.numbers]

    @property
    def counts(self) -> Int[np.ndarray, " n"]:
        """How many coordinates are there, of every row."""
        return self.there.sum(1)[self.numbers]

    def given(self, mean: Float[np.ndarray, " d"], cov: Matrix) -> Given:
        """What the rows tell under N(mean, cov)."""
        pairs = self.there[:, :, None] & self.there[:, None, :]
        blocks = np.where(pairs, cov, np.eye(len(cov)))
        Q = np.where(pairs, np.linalg.inv(blocks), 0.0)
        log_det = np.linalg.slogdet(blocks)[1][self.numbers]
        off = np.where(self.known, self.z - mean, 0.0)
        pulls = off @ Q[0] if len(Q) == 1 else np.einsum("nab,nb->na", Q[self.numbers], off)
        return Given(np.sum(pulls * off, 1), log_det, mean + pulls @ cov, Q)

    def log_density(self, mean: Float[np.ndarray, " d"], cov: Matrix) -> Float[np.ndarray, " n"]:
        """log N(mean, cov) of what is there."""
        squares, log_det, *_ = self.given(mean, cov)
        return -0.5 * (squares + log_det + self.counts * math.log(2 * math.pi))

    def unexplained(self, given: Given, cov: Matrix, weights: Float[np.ndarray, " n"]) -> Matrix:
        """Σ_i weights_i Cov[z_i | what is there]."""
        if self.there.all():
            return np.zeros_like(cov)
        of_pattern = np.bincount(self.numbers, weights, len(self.there))
        return np.sum(weights) * cov - cov @ np.einsum("p,pab->ab", of_pattern, given.Q) @ cov
