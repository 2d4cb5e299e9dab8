r"""Stacked density estimation (Smyth and Wolpert 1998): diffusions beside simple densities.

    p(x) = Σ_k w_k p_k(x),   log p(x) = log Σ_k exp(log w_k + log p_k(x))

The weights maximise the likelihood of rows that no p_k was fitted to, by EM. So the whole is hardly
worse than the best of its parts: of few rows a Gaussian mixture or kernels often know more than a
network. A heavy tail among them bounds the log-density of a row that is unlike all others. The
density, its derivatives and its draws stay exact.

Given categories and the roles of columns, all parts take the same c, and the weights stay. Given
columns B the parts have the weights w_k p_k(x_B), so that p(x_A | x_B) is that of the stack.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy.special import log_softmax, logsumexp, softmax

from scoreode._typing import Scalar
from scoreode.data.roles import as_rows
from scoreode.flow import (
    AbstractSampler,
    GridLikelihood,
    Likelihood,
    LogLikelihood,
    ODESampler,
    Refined,
)
from scoreode.model.config import Parts
from scoreode.model.density import Condition, Conditions, Density
from scoreode.model.simple import SimpleDensity
from scoreode.model.standardise import Chain, ObservedScaling, Roles, Scaling

Rows = Float[np.ndarray, "n d"]
Row = Float[Array, " d"]
Method = Likelihood | GridLikelihood | Refined
_CHOICE = 2  # the stream of keys that chooses parts
_EM_STEPS = 200
_MOST_ERROR = 1.0  # nats, of a diffusion that is believed


def stacking_weights(
    nats: Float[np.ndarray, "n k"], weights: Float[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, " k"]:
    """The w of the greatest likelihood Σ_i log Σ_k w_k exp(nats_ik), by EM.

    Every component has one more row, so that none is without weight for want of rows.

    **Arguments:** `nats`, log-densities of rows that no component was fitted to; `weights`, how
    often every row counts.
    """
    n, k = nats.shape
    counts = np.ones(n) if weights is None else weights * n / np.sum(weights)
    w = np.full(k, 1 / k)
    for _ in range(_EM_STEPS):
        r = softmax(nats + np.log(w), axis=1)
        w = (counts @ r + 1 / k) / (n + 1)
    return w


def believed_nats(record: LogLikelihood) -> Float[np.ndarray, " n"]:
    """log p of a diffusion, −∞ where its error is large: far from all rows an ODE ends anywhere."""
    return np.where(_is_believed(record), record.nats, -np.inf)


def _is_believed(record: LogLikelihood) -> Any:
    return (abs(record.nats) < np.inf) & ~(record.error > _MOST_ERROR)


class Stack(eqx.Module):
    """Σ_k w_k p_k(x), of diffusions and then others; it has the methods of a `Density`."""

    densities: tuple[Density, ...]
    others: tuple[SimpleDensity, ...]
    weights: Float[np.ndarray, " parts"]

    @property
    def shares(self) -> dict[str, float]:
        """The weight of every kind of part by name."""
        k = len(self.densities)
        names = [field.name for field in fields(Parts)][1:]
        others = dict(zip(names, self.weights[k:].tolist(), strict=False))
        return {"diffusion": float(np.sum(self.weights[:k]))} | others

    @property
    def text(self) -> str:
        """The weights for a reader."""
        return ", ".join(f"{name} {share:.2g}" for name, share in self.shares.items())

    def log_likelihood(
        self, x: Rows, seed: int = 0, how: Method = Refined(), c: Conditions | None = None
    ) -> LogLikelihood:
        """log p(x) of every row in nats; see `Density.log_likelihood`.

        Errors are those of the diffusions, times their shares of p(x).

        **Cost:** the sum over the diffusions; twice that where some columns are given.
        """
        return self._with_shares(x, seed, how, c)[0]

    def _log_weights(
        self, d: int, seed: int, how: Method, c: Conditions | None
    ) -> Float[np.ndarray, "#n parts"]:
        """log w_k; of every row, where columns B are given, log P(k | x_B) ∝ w_k p_k(x_B)."""
        logs = np.log(self.weights)[None]
        if c is None or not self.has_roles:
            return logs
        x_B, c_B = as_rows(c, d)
        logs, some = np.tile(logs, (len(c), 1)), np.flatnonzero(~np.isnan(x_B).all(1))
        if len(some):
            nats, _ = self._log_parts(x_B[some], seed, how, c_B[some])
            logs[some] = log_softmax(nats + logs[some], axis=1)
        return logs

    def _log_parts(
        self, x: Rows, seed: int, how: Method, c: Conditions | None
    ) -> tuple[Float[np.ndarray, "n parts"], list[LogLikelihood]]:
        """log p_k of every part, and the records of the diffusions."""
        records = [density.log_likelihood(x, seed, how, c) for density in self.densities]
        parts = [
            *map(believed_nats, records),
            *(other.log_likelihood(x, c) for other in self.others),
        ]
        return np.stack(parts, 1), records

    @property
    def has_roles(self) -> bool:
        """Whether c ends with the roles of the columns; see `Density`."""
        return isinstance(self.densities[0].bijection.condition, Roles)

    def _with_shares(
        self, x: Rows, seed: int, how: Method, c: Conditions | None
    ) -> tuple[LogLikelihood, Float[np.ndarray, "n parts"]]:
        """The record of log p(x), and the shares w_k p_k(x) / p(x)."""
        nats, records = self._log_parts(x, seed, how, c)
        logs = nats + self._log_weights(x.shape[1], seed, how, c)
        shares = softmax(logs, axis=1)

        def spread(name: str) -> np.ndarray:
            return _shared(shares[:, : len(records)], [getattr(r, name) for r in records])

        record = LogLikelihood(
            nats=np.asarray(logsumexp(logs, axis=1)),
            stderr=np.sqrt(np.sum(spread("stderr") ** 2, 1)),
            nfe=np.sum([record.nfe for record in records], 0),
            converged=np.all([record.converged for record in records], 0),
            latent=records[0].latent,
            error=np.sum(spread("error"), 1),
        )
        return record, shares

    def sample(
        self,
        n: int,
        d: int,
        seed: int = 0,
        how: AbstractSampler = ODESampler(),
        c: Conditions | None = None,
    ) -> Rows:
        """n draws of x, shape (n, d); the first k draws do not depend on n."""
        return self.draws(np.arange(n), d, seed, how, c)

    def draws(
        self,
        numbers: Int[np.ndarray, " n"],
        d: int,
        seed: int = 0,
        how: AbstractSampler = ODESampler(),
        c: Conditions | None = None,
    ) -> Rows:
        """The draws of these numbers, of all that a seed has; see `Density.draws`."""
        key = jr.fold_in(jr.key(seed), _CHOICE)
        keys = jax.vmap(lambda i: jr.fold_in(key, i))(jnp.asarray(numbers))
        uniforms = np.asarray(jax.vmap(jr.uniform)(keys))
        weights = np.exp(self._log_weights(d, seed, Refined(), c))
        chosen = np.sum(uniforms[:, None] >= np.cumsum(weights, axis=1)[:, :-1], axis=1)
        x = np.empty((len(numbers), d))
        for k, part in enumerate((*self.densities, *self.others)):
            rows = np.flatnonzero(chosen == k)
            given = None if c is None else c[rows]
            if not len(rows):
                continue
            if isinstance(part, Density):
                x[rows] = part.draws(numbers[rows], d, seed, how, given)
            else:
                x[rows] = part.draws(keys[rows], d, given)
        return x

    def log_density(
        self,
        x: Row,
        c: Condition = None,
        how: GridLikelihood = GridLikelihood(),
        dtype: Any = None,
    ) -> Scalar:
        """log p(x) of one row in nats, fully traced; see `Density.log_density`."""
        records = [density.traced_likelihood(x, c, how, dtype) for density in self.densities]
        parts = [jnp.where(_is_believed(record), record.nats, -jnp.inf) for record in records]
        parts += [other.log_density(x, c) for other in self.others]
        return jax.nn.logsumexp(jnp.stack(parts) + jnp.log(jnp.asarray(self.weights)))

    def draw(
        self,
        key: PRNGKeyArray,
        d: int,
        c: Condition = None,
        dtype: Any = float,
    ) -> Row:
        """One draw of x, fully traced. **Cost:** one solve by an adaptive solver a diffusion."""
        key, chosen = jr.split(key)
        parts = [density.draw(key, d, c, dtype) for density in self.densities]
        parts += [other.draw(key, d, c) for other in self.others]
        return jnp.stack(parts)[jr.choice(chosen, len(parts), p=jnp.asarray(self.weights))]

    def score(
        self,
        x: Rows,
        t: float = 0.0,
        c: Conditions | None = None,
        seed: int = 0,
        how: Refined = Refined(),
    ) -> Rows:
        """∇ log p(x) of every row if t = 0; `network_score` if t > 0.

        ∇ log p = Σ_k r_k ∇ log p_k,   r_k = w_k p_k(x) / p(x)
        """
        if t != 0:
            return self.densities[0].score(x, t, c, seed, how)
        return _mean(*self._shares_and_scores(x, c, seed, how))

    def network_score(self, x: Rows, t: float, c: Conditions | None = None) -> Rows:
        """s_θ(·, max(t, t_min)) of the first diffusion in the units of x."""
        return self.densities[0].network_score(x, t, c)

    def hessian_product(
        self,
        x: Rows,
        v: Rows,
        t: float = 0.0,
        c: Conditions | None = None,
        seed: int = 0,
        how: Refined = Refined(),
    ) -> Rows:
        """∇² log p(x) v for every row if t = 0; that of the first diffusion's network if t > 0.

            ∇² log p = Σ_k r_k (∇² log p_k + s_k s_kᵀ) − s sᵀ,   s = Σ_k r_k s_k

        with the shares r_k and the scores s_k = ∇ log p_k.
        """
        if t != 0:
            return self.densities[0].hessian_product(x, v, t, c, seed, how)
        r, scores = self._shares_and_scores(x, c, seed, how)
        products = [p.hessian_product(x, v, t, c, seed, how) for p in self.densities]
        products += [other.hessian_product(x, v, c) for other in self.others]
        *along, mean = (s * np.sum(s * v, 1, keepdims=True) for s in (*scores, _mean(r, scores)))
        return _mean(r, [H + a for H, a in zip(products, along, strict=True)]) - mean

    def laplacian(
        self,
        x: Rows,
        t: float = 0.0,
        n_probes: int | None = None,
        c: Conditions | None = None,
        seed: int = 0,
        how: Refined = Refined(),
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """tr ∇² log p(x) and its standard error, each of shape (n,); see `hessian_product`."""
        if t != 0:
            return self.densities[0].laplacian(x, t, n_probes, c, seed, how)
        r, scores = self._shares_and_scores(x, c, seed, how)
        found = [p.laplacian(x, t, n_probes, c, seed, how) for p in self.densities]
        traces = [trace for trace, _ in found] + [other.laplacian(x, c) for other in self.others]
        *lengths, mean = (np.sum(s**2, 1) for s in (*scores, _mean(r, scores)))
        curved = [trace + length for trace, length in zip(traces, lengths, strict=True)]
        errors = _shared(r[:, : len(found)], [stderr for _, stderr in found])
        return np.sum(_shared(r, curved), 1) - mean, np.sqrt(np.sum(errors**2, 1))

    def _shares_and_scores(
        self, x: Rows, c: Conditions | None, seed: int, how: Refined
    ) -> tuple[Float[np.ndarray, "n parts"], list[Rows]]:
        _, r = self._with_shares(x, seed, how, c)
        scores = [density.score(x, 0.0, c, seed, how) for density in self.densities]
        return r, [*scores, *(other.score(x, c) for other in self.others)]


Whole = Density | Stack
"""What is evaluated and drawn from."""


def diffusion_of(whole: Whole) -> Density:
    """The diffusion, of a stack the first."""
    return whole.densities[0] if isinstance(whole, Stack) else whole


def _mean(shares: Float[np.ndarray, "n parts"], parts: Sequence[Rows]) -> Rows:
    """The mean of one row of every part, by shares."""
    return np.sum(_shared(shares[..., None], parts), 1)


def _shared(shares: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Every part's values times its shares: 0 where it has none, whatever the values are."""
    return shares * np.where(shares > 0, np.stack(parts, 1), 0.0)


def sizes_of(stack: Stack) -> Parts:
    """What `blank_stack` needs to know."""
    return Parts(len(stack.densities), *(len(other.means) for other in stack.others))


def blank_stack(density: Density, parts: Parts, d: int, n_indicators: int = 0) -> Stack:
    """A stack of the same structure, whose arrays are to be filled.

    **Arguments:** `n_indicators`, how many indicators a row's categories have.
    """
    heavy = tuple(replace(part, heavy=True) for part in density.bijection.support)
    roles = unconditional(density.bijection).condition
    scaling = ObservedScaling if roles is not None else Scaling
    tail = Chain((scaling.identity(d),), roles).after(heavy)
    there = [
        (tail, parts.tail, 1, 0),
        (unconditional(density.bijection), parts.mixture, parts.mixture, n_indicators),
        (density.bijection, parts.kernels, 1, n_indicators),
    ]
    others = tuple(SimpleDensity.blank(T, k, m, d, g) for T, k, m, g in there if k)
    weights = np.zeros(parts.diffusions + len(others))
    return Stack((density,) * parts.diffusions, others, weights)


def unconditional(bijection: Chain) -> Chain:
    """The part of a bijection that rows have without conditions: roles stay."""
    roles = bijection.condition if isinstance(bijection.condition, Roles) else None
    return replace(bijection, condition=roles)
