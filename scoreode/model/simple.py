r"""Densities in closed form: Gaussian mixtures, kernel estimates and heavy tails.

All are mixtures of elliptical laws,

    p(z) = Σ_k w_k |det A_k| g(‖A_k (z − m_k)‖²),   z = T(x),

where g is standard normal or Student's t, and T a bijection as that of a diffusion. Few rows are
often better described by them than by a network, and a heavy tail bounds what a row can cost.
"""

import math
from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist
from scipy.special import gammaln, logsumexp
from sklearn.mixture import GaussianMixture

from scoreode._typing import Scalar
from scoreode.flow import map_rows, rows_at_once
from scoreode.model.standardise import Chain

_COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16)
_ROWS_PER_COMPONENT = 5  # fewer, and covariances are hardly known
_RIDGE = 1e-3  # of variances in standardised coordinates
_FOLDS, _LOSSES = 5, 2
_QUERIES = 512  # rows whose density the others estimate
_LEAST, _MOST = 0.01, 1.0  # bandwidths
_LIGHTEST = 4.0  # tails have 1 to 4 degrees of freedom
_LOG_DF = (0.0, math.log(_LIGHTEST))
_ITERATIONS = 50
Rows = Float[np.ndarray, "n d"]
Row = Float[Array, " d"]


class SimpleDensity(eqx.Module):
    """p(x) of rows in the units of the data, in closed form.

    `A` holds one matrix for all components, or one for each. `df` are the degrees of freedom of
    Student's t, infinite for normal laws.
    """

    bijection: Chain
    log_weights: Float[np.ndarray, " k"]
    means: Float[np.ndarray, "k d"]
    A: Float[np.ndarray, "m d d"]
    df: Float[np.ndarray, ""]

    @classmethod
    def blank(cls, bijection: Chain, k: int, m: int, d: int) -> Self:
        """The same structure, whose arrays are to be filled."""
        return cls(bijection, np.zeros(k), np.zeros((k, d)), np.zeros((m, d, d)), np.array(np.inf))

    def log_density(self, x: Row) -> Scalar:
        """log p(x) of one row in nats, fully traced."""
        z, log_det = self.bijection.forward(x)
        u = (self.A @ (z - self.means)[..., None])[..., 0]
        squares, log_volumes = jnp.sum(u**2, -1), jnp.linalg.slogdet(self.A)[1]
        logs = self.log_weights + log_volumes + self._log_radial(squares, len(z))
        return jax.nn.logsumexp(logs) + log_det

    def _log_radial(self, squares: Array, d: int) -> Array:
        """log g of squared distances."""
        df = jnp.asarray(self.df)
        safe = jnp.where(jnp.isfinite(df), df, 1.0)
        gammas = jax.lax.lgamma((safe + d) / 2) - jax.lax.lgamma(safe / 2)
        t = gammas - d / 2 * jnp.log(safe * jnp.pi) - (safe + d) / 2 * jnp.log1p(squares / safe)
        normal = -0.5 * squares - d / 2 * math.log(2 * math.pi)
        return jnp.where(jnp.isfinite(df), t, normal)

    def draw(self, key: PRNGKeyArray, d: int) -> Row:
        """One draw of x, fully traced."""
        key_k, key_z, key_t = jr.split(key, 3)
        k = jr.categorical(key_k, jnp.asarray(self.log_weights))
        A = jnp.asarray(self.A)[k if len(self.A) > 1 else 0]
        u, df = jr.normal(key_z, (d,)), jnp.asarray(self.df)
        half = jnp.where(jnp.isfinite(df), df, 1.0) / 2
        spread = jnp.where(jnp.isfinite(df), jnp.sqrt(half / jr.gamma(key_t, half)), 1.0)
        z = jnp.asarray(self.means)[k] + spread * jnp.linalg.solve(A, u)
        return jnp.asarray(self.bijection.inverse(z))

    def log_likelihood(self, x: Rows) -> Float[np.ndarray, " n"]:
        """log p of every row in nats, in float64."""
        return self._over_rows(SimpleDensity.log_density, x)

    def score(self, x: Rows) -> Rows:
        """∇ log p of every row."""
        return self._over_rows(_gradient, x)

    def hessian_product(self, x: Rows, v: Rows) -> Rows:
        """∇² log p(x) v of every row."""
        return self._over_rows(_hessian_product, x, v)

    def laplacian(self, x: Rows) -> Float[np.ndarray, " n"]:
        """tr ∇² log p of every row."""
        return self._over_rows(_laplacian, x)

    def draws(self, keys: Key[Array, " n"], d: int) -> Rows:
        """A draw for every key."""
        with jax.enable_x64(True):
            return map_rows(_draw, (self, d), (keys,), rows_at_once(d, 0))

    def _over_rows(self, function: Callable, *rows: Rows) -> Any:
        """A function of this density and of single rows, in float64."""
        chunk = rows_at_once(max(self.means.size, rows[0].shape[1]), 0)
        with jax.enable_x64(True):
            return map_rows(
                function, (self,), tuple(np.asarray(r, np.float64) for r in rows), chunk
            )


def _draw(density: SimpleDensity, d: int, key: PRNGKeyArray) -> Row:
    return density.draw(key, d)


def _gradient(density: SimpleDensity, x: Row) -> Row:
    return jax.grad(density.log_density)(x)


def _hessian_product(density: SimpleDensity, x: Row, v: Row) -> Row:
    return jax.jvp(jax.grad(density.log_density), (x,), (v,))[1]


def _laplacian(density: SimpleDensity, x: Row) -> Scalar:
    products = jax.lax.map(lambda v: _hessian_product(density, x, v) @ v, jnp.eye(len(x)))
    return jnp.sum(products)


def fit_mixture(bijection: Chain, x: Rows, k: int | None = None) -> SimpleDensity:
    """The Gaussian mixture of k components, by default as many as explain left-out rows best.

    The numbers 1, 2, 3, 4, 6, 8, 12 and 16 are compared by the log-density of the rows that each of
    five parts holds, fitted to the others, until two in a row are no better.
    """
    z = np.asarray(bijection.forward(x)[0])
    best: Any = _mixture(_best_number(z) if k is None else k, z)
    A = np.swapaxes(best.precisions_cholesky_, 1, 2)
    return SimpleDensity(bijection, np.log(best.weights_), best.means_, A, np.array(np.inf))


def _best_number(z: Rows) -> int:
    """Of components, by five-fold cross-validation."""
    folds = np.array_split(np.random.default_rng(0).permutation(len(z)), _FOLDS)
    most = len(z) * (_FOLDS - 1) // _FOLDS // _ROWS_PER_COMPONENT

    best, greatest, losses = 1, -np.inf, 0
    for k in _COMPONENTS:
        if k > max(most, 1) or losses == _LOSSES:
            break
        pairs = ((np.delete(z, fold, 0), z[fold]) for fold in folds)
        nats = sum(float(np.sum(_mixture(k, a).score_samples(b))) for a, b in pairs)
        if nats > greatest:
            best, greatest, losses = k, nats, 0
        else:
            losses += 1
    return best


def _mixture(k: int, z: Rows) -> GaussianMixture:
    return GaussianMixture(k, reg_covar=_RIDGE, random_state=0).fit(z)


def fit_kernels(bijection: Chain, x: Rows) -> SimpleDensity:
    """A normal kernel on every row, of the best bandwidth."""
    z = np.asarray(bijection.forward(x)[0])
    n, d = z.shape
    A = np.eye(d)[None] / kernel_bandwidth(z)
    return SimpleDensity(bijection, np.full(n, -np.log(n)), z, A, np.array(np.inf))


def kernel_bandwidth(z: Rows) -> float:
    r"""The h of the greatest likelihood of rows under the kernels on all other rows.

    h maximises the mean of log Σ_{j≠i} N(z_i; z_j, h² I) over rows i, at most 512 of them, between
    0.01 and 1.
    """
    some = np.random.default_rng(0).permutation(len(z))[:_QUERIES]
    squares = cdist(z[some], z, "sqeuclidean")
    squares[np.arange(len(some)), some] = np.inf

    def nll(log_h: float) -> float:
        logs = logsumexp(-squares / (2 * np.exp(2 * log_h)), axis=1)
        return z.shape[1] * log_h - float(np.mean(logs))

    found = minimize_scalar(nll, bounds=(np.log(_LEAST), np.log(_MOST)), method="bounded")
    return float(np.exp(found.x))


def fit_tail(bijection: Chain, x: Rows) -> SimpleDensity:
    """Student's t of the greatest likelihood, with 1 to 4 degrees of freedom.

    Its location and scatter are found by EM, and the degrees of freedom between its steps (ECME,
    Liu and Rubin 1995). Rows far out hardly count.
    """
    z = np.asarray(bijection.forward(x)[0])
    (n, d), df = z.shape, _LIGHTEST
    location = np.median(z, 0)
    scatter = np.cov(z.T, bias=True).reshape(d, d)
    for _ in range(_ITERATIONS):
        A = np.linalg.inv(np.linalg.cholesky(scatter + _RIDGE**2 * np.eye(d)))
        squares = np.sum(((z - location) @ A.T) ** 2, 1)
        found = minimize_scalar(_t_nll, args=(squares, d), bounds=_LOG_DF, method="bounded")
        df = float(np.exp(found.x))
        w = (df + d) / (df + squares)
        location = w @ z / np.sum(w)
        scatter = (w * (z - location).T) @ (z - location) / n
    A = np.linalg.inv(np.linalg.cholesky(scatter + _RIDGE**2 * np.eye(d)))
    return SimpleDensity(bijection, np.zeros(1), location[None], A[None], np.array(df))


def _t_nll(log_df: float, squares: np.ndarray, d: int) -> float:
    """Of squared distances, without what does not depend on the degrees of freedom."""
    df = np.exp(log_df)
    gammas = gammaln((df + d) / 2) - gammaln(df / 2) - d / 2 * np.log(df)
    return float(np.mean((df + d) / 2 * np.log1p(squares / df)) - gammas)
