r"""Targets: what a residual compares the network's derivatives with, and how noisy that is.

Every residual of denoising score matching is linear in the network's derivatives, and its gradient
is linear in the target, a function of ε. So the target may be any conditional expectation of it:
the expected gradient stays, and its variance falls (Rao–Blackwell). Let S be an example's own row
x_0 and reference rows x_j, drawn as training rows are. Given S and x_t, the row was x_j with
probability

    w_j ∝ exp(−‖e_j‖² / 2),    e_j = (x_t − α x_j) / σ,    e_0 = ε.

The posterior expectations of all targets follow from the first three cumulants of e under w, along
the probes v: with ℓ1 = σ ŝ1 + ē and a = ℓ1·v,

    mean        ē = Σ_j w_j e_j
    second      C v = Σ_j w_j (δ_j·v) δ_j,        δ_j = e_j − ē
    third       K(v) = Σ_j w_j (δ_j·v)² δ_j
    of J2       Σ_j w_j a_j ℓ1_j = a ℓ1 + C v
    of J3       Σ_j w_j a_j² ℓ1_j = (a² + vᵀC v) ℓ1 + 2 a C v + K(v).

A single draw has ē = ε, C = 0 and K = 0. Order 1 of this is proved for any S by Bertrand et al.
("empirical flow matching", 2025); a biased form is Xu et al. (2023).

Antithetic noise is a choice apart: an example ε beside its mirror image −ε.
"""

import abc
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from scoreode._typing import Batch, Pairs, Scalar
from scoreode.calculus import ProbeDraw
from scoreode.objective.weighting import AbstractWeighting, Times
from scoreode.process import AbstractProcess

Flat = Float[Array, " d"]
AlongProbes = Float[Array, "k d"]
_EXACT = jax.lax.Precision.HIGHEST  # products here become differences of large numbers


class Cumulants(NamedTuple):
    """Cumulants of e given x_t: ē; C v and K(v) for every probe v, or 0."""

    mean: Flat
    second: AlongProbes | Scalar
    third: AlongProbes | Scalar


class Diffused(NamedTuple):
    """An example: its row x_0, its noise ε, and α/σ at its time."""

    x_0: Flat
    eps: Flat
    ratio: Scalar


class Reference(NamedTuple):
    """The other rows that an example may have come from.

    `same`: whether a row's conditions are the example's; without conditions None.
    """

    rows: Float[Array, "rows d"]
    same: Bool[Array, " rows"] | None = None

    @classmethod
    def of(cls, rows: Batch) -> Callable[[Array | None], "Reference"]:
        """The reference of an example as a function of its conditions c."""
        x, c = rows if isinstance(rows, Pairs) else (rows, None)
        x = x.reshape(len(x), -1)
        return lambda own: cls(x) if c is None else cls(x, jnp.all(c == own, 1))


class AbstractTargets(eqx.Module):
    """The cumulants of e that take the place of ε."""

    @property
    @abc.abstractmethod
    def n_reference(self) -> int:
        """How many reference rows a step draws beside its batch."""

    @abc.abstractmethod
    def cumulants(
        self, at: Diffused, reference: Reference, probes: ProbeDraw, order: int
    ) -> Cumulants:
        """The cumulants up to this order."""


def of_draw(eps: Flat) -> Cumulants:
    """The cumulants of ε alone."""
    zero = jnp.zeros((), eps.dtype)
    return Cumulants(eps, zero, zero)


class Draw(AbstractTargets):
    """ε, as it was drawn: ē = ε, C = 0, K = 0.

    **Expectation:** the plain denoising objectives.

    **Cost:** none.
    """

    @property
    def n_reference(self) -> int:
        """None."""
        return 0

    def cumulants(
        self, at: Diffused, reference: Reference, probes: ProbeDraw, order: int
    ) -> Cumulants:
        return of_draw(at.eps)


class PosteriorMean(AbstractTargets):
    """The posterior's cumulants over the own row and `rows` more.

    **Expectation:** the gradients are those of `Draw`, for any number of rows. The values of the
    terms are lower, by the variance of their targets given x_t.

    **Cost:** products of (batch × rows) with (rows × d) matrices: two for order 1, and one more
    for every order and probe.
    """

    rows: int = 1024

    @property
    def n_reference(self) -> int:
        """`rows`."""
        return self.rows

    def cumulants(
        self, at: Diffused, reference: Reference, probes: ProbeDraw, order: int
    ) -> Cumulants:
        # All is relative to x_0, which then drops out exactly where no other row is near.
        (x_0, eps, ratio), rows = at, reference.rows
        w, own = _weights(at, reference)
        total, shift = _moments(w, rows, x_0)
        scale = 1 / (total + own)
        shift = scale * shift
        mean = eps - ratio * shift
        if order == 1:
            return of_draw(mean)
        w = scale * w
        v = probes.vectors
        along = jnp.matmul(v, rows.T, precision=_EXACT) - jnp.sum(v * x_0, 1, keepdims=True)
        shift_v = jnp.sum(v * shift, 1, keepdims=True)
        _, raw = _moments(w * along, rows, x_0)
        second = ratio**2 * (raw - shift_v * shift)
        if order == 2:
            return Cumulants(mean, second, jnp.zeros((), eps.dtype))
        square, third = _moments(w * along**2, rows, x_0)
        third = third - square * shift + 2 * shift_v * (shift_v * shift - raw)
        return Cumulants(mean, second, -(ratio**3) * third)


def _weights(at: Diffused, reference: Reference) -> tuple[Float[Array, " rows"], Scalar]:
    """The posterior weights w_j of the reference rows and of the own row, up to a common factor."""
    (x_0, eps, ratio), (rows, same) = at, reference
    # log w_j − log w_0 = ‖ε‖²/2 − ‖e_j‖²/2 = f(x_j) − f(x_0) with r = α/σ and
    # f(x) = (r ε + r² x_0)·x − r² ‖x‖²/2, by one product of matrices for a batch.
    norms = jnp.sum(rows**2, 1, keepdims=True) / 2
    features = jnp.concatenate([rows, -norms, -jnp.ones_like(norms)], 1)
    at_x_0 = jnp.sum(ratio * eps * x_0 + ratio**2 / 2 * x_0**2)
    factors = jnp.append(ratio * eps + ratio**2 * x_0, jnp.stack([ratio**2, at_x_0]))
    log_w = jnp.matmul(factors, features.T, precision=_EXACT)
    if same is not None:
        log_w = jnp.where(same, log_w, -jnp.inf)
    largest = jnp.maximum(jnp.max(log_w), 0)
    return jnp.exp(log_w - largest), jnp.exp(-largest)


def _moments(
    weights: Float[Array, "*k rows"], rows: Float[Array, "rows d"], x_0: Flat
) -> tuple[Float[Array, "*k 1"], Float[Array, "*k d"]]:
    """Σ_j weight_j and Σ_j weight_j (x_j − x_0), by one product of matrices for a batch."""
    features = jnp.concatenate([rows, jnp.ones((len(rows), 1), rows.dtype)], 1)
    sums = jnp.matmul(weights, features, precision=_EXACT)
    total = sums[..., -1:]
    return total, sums[..., :-1] - total * x_0


class Noise(NamedTuple):
    """The examples of a batch: which row each is, its ε and t, and t's importance weight."""

    row: Int[Array, " n"]
    eps: Float[Array, "n ..."]
    t: Times
    weight: Float[Array, " n"]


class AbstractNoise(eqx.Module):
    """How the examples of a batch draw t and ε."""

    @abc.abstractmethod
    def draw(
        self,
        process: AbstractProcess,
        weighting: AbstractWeighting,
        keys: tuple[PRNGKeyArray, PRNGKeyArray],
        x: Float[Array, "n ..."],
    ) -> Noise:
        """t and ε for as many examples as there are rows x; `keys` are those of t and of ε."""


class Independent(AbstractNoise):
    """Every row with its own t and ε."""

    def draw(
        self,
        process: AbstractProcess,
        weighting: AbstractWeighting,
        keys: tuple[PRNGKeyArray, PRNGKeyArray],
        x: Float[Array, "n ..."],
    ) -> Noise:
        key_t, key_eps = keys
        n = len(x)
        t, weight = weighting.sample(process, key_t, n)
        return Noise(jnp.arange(n), jr.normal(key_eps, x.shape, x.dtype), t, weight)


class Antithetic(AbstractNoise):
    """Pairs of examples with one t and one row, and with ε and −ε.

    Only where σ/α is `below` a number, if one is given. At small σ this takes the gradient's noise
    from O(1) to O(σ): there the targets of J1 and J3, odd in ε, are all noise. A batch of n has n/2
    distinct rows then, and n/2 distinct t.
    """

    below: float | None = None

    def draw(
        self,
        process: AbstractProcess,
        weighting: AbstractWeighting,
        keys: tuple[PRNGKeyArray, PRNGKeyArray],
        x: Float[Array, "n ..."],
    ) -> Noise:
        key_t, key_eps = keys
        n = len(x)
        t, weight = (jnp.repeat(a, 2)[:n] for a in weighting.sample(process, key_t, (n + 1) // 2))
        eps = jr.normal(key_eps, x.shape, x.dtype)
        place = jnp.arange(n)
        mirrored = place % 2 == 1
        if self.below is not None:
            mirrored &= jnp.exp(-jax.vmap(process.log_snr)(t) / 2) < self.below
        row = jnp.where(mirrored, place - 1, place)
        sign = jnp.where(mirrored, -1, 1).astype(x.dtype)
        return Noise(row, eps[row] * sign.reshape(-1, *[1] * (x.ndim - 1)), t, weight)
