"""Mixtures of elliptical laws, given categories and where columns have roles."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from scoreode._typing import Scalar
from scoreode.data.roles import split_roles
from scoreode.flow import map_rows, rows_at_once
from scoreode.model.standardise import Chain, Roles

Rows = Float[np.ndarray, "n d"]
Row = Float[Array, " d"]
Condition = Float[Array, " q"] | None
Conditions = Float[np.ndarray, "n q"] | None
Mask = Bool[Array, " d"] | None


class _Row(NamedTuple):
    """A row in coordinates: z, log |det ∂T/∂x|, and which of z is known and which given."""

    z: Row
    log_det: Scalar
    known: Mask = None
    given: Mask = None


class SimpleDensity(eqx.Module):
    """p(x) or p(x | c) of rows in the units of the data, in closed form.

    `A` holds one matrix for all components, or one for each. `df` are the degrees of freedom of
    Student's t, infinite for normal laws. With a `gate` W, the first numbers k of c decide which
    components are likely: P(j | k) ∝ exp(log_weights_j + W_j k).

    If the bijection's condition has `Roles`, c ends with the roles of the columns, and the density
    is that of the diffused ones given the given ones; see `Density`.
    """

    bijection: Chain
    log_weights: Float[np.ndarray, " k"]
    means: Float[np.ndarray, "k d"]
    A: Float[np.ndarray, "m d d"]
    df: Float[np.ndarray, ""]
    gate: Float[np.ndarray, "k l"] | None = None

    @classmethod
    def blank(cls, bijection: Chain, k: int, m: int, d: int, n_indicators: int = 0) -> Self:
        """The same structure, whose arrays are to be filled."""
        gate = np.zeros((k, n_indicators)) if n_indicators else None
        arrays = np.zeros(k), np.zeros((k, d)), np.zeros((m, d, d)), np.array(np.inf)
        return cls(bijection, *arrays, gate)

    def log_density(self, x: Row, c: Condition = None) -> Scalar:
        """log p(x) or log p(x | c) of one row in nats, fully traced."""
        row, log_weights = self._locate(x, c), self._log_weights(c)
        nats = jax.nn.logsumexp(log_weights + self._log_components(row.z, row.known))
        if row.given is not None:
            logs = log_weights + self._log_components(row.z, row.given)
            nats = nats - jax.nn.logsumexp(logs)
        return nats + row.log_det

    def draw(self, key: PRNGKeyArray, d: int, c: Condition = None) -> Row:
        """One draw of x, fully traced; of all columns, given ones as they are."""
        key_k, key_z, key_t = jr.split(key, 3)
        row, log_weights = self._locate(jnp.full(d, jnp.nan), c), self._log_weights(c)
        if row.given is not None:
            log_weights = log_weights + self._log_components(row.z, row.given)
        k = jr.categorical(key_k, jnp.asarray(log_weights))
        A, mean = jnp.asarray(self.A)[k if len(self.A) > 1 else 0], jnp.asarray(self.means)[k]
        noise = jnp.linalg.solve(A, jr.normal(key_z, (d,)))
        if row.given is None:
            z = mean + self._spread(key_t) * noise
        else:
            off, cov = row.z - mean, _covariances(A)
            Q = jnp.where(_pairs(row.given), jnp.linalg.inv(_only(cov, row.given)), 0.0)
            z = mean + self._spread(key_t, off @ Q @ off, row.given.sum()) * noise
            z = z + cov @ Q @ (row.z - z)
        return jnp.asarray(self.bijection.inverse(z, self.bijection.standardise(c)))

    def _spread(self, key: PRNGKeyArray, squares: Array | float = 0.0, n: Array | int = 0) -> Array:
        """The random scale that makes a normal law Student's t, given n values at a squared
        distance; 1 for a normal law."""
        df = jnp.asarray(self.df)
        safe = jnp.where(jnp.isfinite(df), df, 1.0)
        gamma = jr.gamma(key, (safe + n) / 2)
        return jnp.where(jnp.isfinite(df), jnp.sqrt((safe + squares) / 2 / gamma), 1.0)

    def _log_weights(self, c: Condition) -> Float[Array, " k"]:
        """log P(j | k) of all components."""
        if self.gate is None or c is None:
            return jnp.asarray(self.log_weights)
        logs = jnp.asarray(self.log_weights) + self.gate @ c[: self.gate.shape[1]]
        return jax.nn.log_softmax(logs)

    def _locate(self, x: Row, c: Condition) -> _Row:
        """The row in coordinates, which are 0 where they are unknown."""
        standard = self.bijection.standardise(c)
        z, log_det = map(jnp.asarray, self.bijection.forward(x, standard))
        if not self.has_roles:
            return _Row(z, log_det)
        _, given, _, _, values = split_roles(standard, len(x))
        known = ~jnp.isnan(x)
        return _Row(jnp.where(known, z, values), log_det, known | (given > 0), given > 0)

    @property
    def has_roles(self) -> bool:
        """Whether c ends with the roles of the columns."""
        return isinstance(self.bijection.condition, Roles)

    def _log_components(self, z: Row, known: Mask) -> Float[Array, " k"]:
        """The log-density of every component at what is known of z."""
        off = z - self.means
        if known is None:
            u, n = (self.A @ off[..., None])[..., 0], jnp.asarray(len(z))
            log_volumes = jnp.linalg.slogdet(self.A)[1]
        else:
            L = jnp.linalg.cholesky(_only(_covariances(jnp.asarray(self.A)), known))
            L = jnp.broadcast_to(L, (len(off), *L.shape[1:])) if len(L) == 1 else L
            off = jnp.where(known, off, 0.0)[..., None]
            u, n = jax.scipy.linalg.solve_triangular(L, off, lower=True)[..., 0], known.sum()
            log_volumes = -jnp.sum(jnp.log(jnp.diagonal(L, axis1=1, axis2=2)), -1)
        return log_volumes + self._log_radial(jnp.sum(u**2, -1), n)

    def _log_radial(self, squares: Array, d: Array) -> Array:
        """log g of squared distances in d dimensions."""
        df, d = jnp.asarray(self.df), d.astype(squares.dtype)
        safe = jnp.where(jnp.isfinite(df), df, 1.0).astype(squares.dtype)
        gammas = jax.lax.lgamma((safe + d) / 2) - jax.lax.lgamma(safe / 2)
        t = gammas - d / 2 * jnp.log(safe * jnp.pi) - (safe + d) / 2 * jnp.log1p(squares / safe)
        normal = -0.5 * squares - d / 2 * math.log(2 * math.pi)
        return jnp.where(jnp.isfinite(df), t, normal)

    def log_likelihood(self, x: Rows, c: Conditions = None) -> Float[np.ndarray, " n"]:
        """log p of every row in nats, in float64."""
        return self._over_rows(SimpleDensity.log_density, x, c)

    def score(self, x: Rows, c: Conditions = None) -> Rows:
        """∇ log p of every row; 0 where columns are not diffused."""
        return self._over_rows(_gradient, x, c)

    def hessian_product(self, x: Rows, v: Rows, c: Conditions = None) -> Rows:
        """∇² log p(x) v of every row."""
        return self._over_rows(_hessian_product, x, c, v)

    def laplacian(self, x: Rows, c: Conditions = None) -> Float[np.ndarray, " n"]:
        """tr ∇² log p of every row."""
        return self._over_rows(_laplacian, x, c)

    def draws(self, keys: Key[Array, " n"], d: int, c: Conditions = None) -> Rows:
        """A draw for every key."""
        with jax.enable_x64(True):
            return map_rows(_draw, (self, d), (keys, _float64(c)), self._at_once(d))

    def _at_once(self, d: int) -> int:
        """How many rows are evaluated together."""
        return rows_at_once(max(self.means.size, d, self.A.size if self.has_roles else 0), 0)

    def _over_rows(self, function: Callable, x: Rows, c: Conditions, *rows: Rows) -> Any:
        """A function of this density and of single rows, in float64."""
        with jax.enable_x64(True):
            arrays = tuple(_float64(array) for array in (x, c, *rows))
            return map_rows(function, (self,), arrays, self._at_once(x.shape[1]))


def _float64(rows: Rows | None) -> Rows | None:
    return None if rows is None else np.asarray(rows, np.float64)


def _covariances(A: Float[Array, "*m d d"]) -> Float[Array, "*m d d"]:
    """(AᵀA)⁻¹."""
    root = jnp.linalg.inv(A)
    return root @ jnp.swapaxes(root, -1, -2)


def _pairs(known: Bool[Array, " d"]) -> Bool[Array, "d d"]:
    return known[:, None] & known


def _only(cov: Float[Array, "*m d d"], known: Bool[Array, " d"]) -> Float[Array, "*m d d"]:
    """The covariance of what is known; the rest is independent, with variance 1."""
    return jnp.where(_pairs(known), cov, jnp.eye(len(known), dtype=cov.dtype))


def _draw(density: SimpleDensity, d: int, key: PRNGKeyArray, c: Condition) -> Row:
    return density.draw(key, d, c)


def _gradient(density: SimpleDensity, x: Row, c: Condition) -> Row:
    return jax.grad(density.log_density)(x, c)


def _hessian_product(density: SimpleDensity, x: Row, c: Condition, v: Row) -> Row:
    return jax.jvp(lambda x: _gradient(density, x, c), (x,), (v,))[1]


def _laplacian(density: SimpleDensity, x: Row, c: Condition) -> Scalar:
    basis = jnp.eye(len(x))
    return jnp.sum(jax.lax.map(lambda v: _hessian_product(density, x, c, v) @ v, basis))
