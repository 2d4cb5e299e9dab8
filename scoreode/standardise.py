r"""From the data's units to coordinates in which a diffusion is easy: bijections with Jacobians.

A diffusion adds the same noise in every direction. Directions in which the data are much thinner
than the rest, and heavy tails, are then hard to learn, and an affine map or a power transform that
removes them costs nothing: with z = T(x), log p(x) = log p(T(x)) + log |det ∂T/∂x|.

Fitting and evaluation are float64 NumPy, as a nearly degenerate column needs the digits. The same
code traces under JAX, which is how scores are carried back to the data's units.
"""

import abc
from typing import Self

import equinox as eqx
import jax
import numpy as np
from scipy import optimize

_FITTED_ROWS = 8000  # rows that decide a power transform; more do not move it
_PULL = 1e-5  # nats per unit² from the identity: decides only what the data leave open
_MIN_RELATIVE_VARIANCE = 1e-12  # of a whitened direction; below, float64 has no digits left

Array = np.ndarray | jax.Array


class AbstractBijection(eqx.Module):
    """z = T(x) for rows (..., d) of NumPy (float64) or JAX."""

    @classmethod
    @abc.abstractmethod
    def fitted(cls, x: np.ndarray) -> Self:
        """The member of the family that suits rows (n, d)."""

    @classmethod
    @abc.abstractmethod
    def identity(cls, d: int) -> Self:
        """The member that changes nothing (for BoxCox: nothing above `low`)."""

    @abc.abstractmethod
    def forward(self, x: Array) -> tuple[Array, Array]:
        """z (..., d), and log |det ∂T/∂x| (...,)."""

    @abc.abstractmethod
    def inverse(self, z: Array) -> Array:
        """x (..., d)."""


class Scaling(AbstractBijection):
    """z = (x − mean) / scale: every column to mean 0 and variance 1."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fitted(cls, x: np.ndarray) -> Self:
        return cls(x.mean(0), x.std(0))

    @classmethod
    def identity(cls, d: int) -> Self:
        return cls(np.zeros(d), np.ones(d))

    def forward(self, x: Array) -> tuple[Array, Array]:
        xp = x.__array_namespace__()
        return (x - self.mean) / self.scale, xp.full(x.shape[:-1], -xp.sum(xp.log(self.scale)))

    def inverse(self, z: Array) -> Array:
        return self.scale * z + self.mean


class Centring(AbstractBijection):
    """z = (x − mean) / scale with one mean and one scale for all columns: pixels stay alike."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fitted(cls, x: np.ndarray) -> Self:
        return cls(x.mean(keepdims=True)[0], x.std(keepdims=True)[0])

    @classmethod
    def identity(cls, d: int) -> Self:  # noqa: ARG003 (one for any number of columns)
        return cls(np.zeros(1), np.ones(1))

    def forward(self, x: Array) -> tuple[Array, Array]:
        xp = x.__array_namespace__()
        log_det = -x.shape[-1] * xp.log(self.scale[0])
        return (x - self.mean) / self.scale, xp.full(x.shape[:-1], log_det)

    def inverse(self, z: Array) -> Array:
        return self.scale * z + self.mean


class Whitening(AbstractBijection):
    """z = (x − mean) W: the covariance to the identity, along its eigenvectors."""

    mean: np.ndarray
    W: np.ndarray

    @classmethod
    def fitted(cls, x: np.ndarray) -> Self:
        mean, scale = x.mean(0), x.std(0)
        standard = (x - mean) / scale
        values, vectors = np.linalg.eigh(standard.T @ standard / len(x))
        values = np.maximum(values, _MIN_RELATIVE_VARIANCE)
        return cls(mean, (vectors / np.sqrt(values)) / scale[:, None])

    @classmethod
    def identity(cls, d: int) -> Self:
        return cls(np.zeros(d), np.eye(d))

    def forward(self, x: Array) -> tuple[Array, Array]:
        xp = x.__array_namespace__()
        return (x - self.mean) @ self.W, xp.full(x.shape[:-1], xp.linalg.slogdet(self.W)[1])

    def inverse(self, z: Array) -> Array:
        xp = z.__array_namespace__()
        return z @ xp.linalg.inv(self.W) + self.mean


class BoxCox(AbstractBijection):
    r"""Shifted Box–Cox power transforms of every column (Box and Cox 1964).

        z = (w^λ − 1) / λ,    w = x − low + shift,    z = log w where λ = 0.

    Below `low`, the least value fitted, w goes on as shift · exp((x − low) / shift), which keeps w
    positive and T once differentiable for any new row.

    λ and shift are fitted for all columns together, by the likelihood of one Gaussian with full
    covariance: what becomes linear between columns, a product or a ratio, is found too.
    """

    low: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    lam: np.ndarray

    @classmethod
    def fitted(cls, x: np.ndarray) -> Self:
        """The joint maximum-likelihood λ and shift, with a weak pull towards the identity."""
        rows = np.random.default_rng(0).permutation(len(x))[:_FITTED_ROWS]
        low, scale = x.min(0), x.std(0)
        u, d = (x[rows] - low) / scale, x.shape[1]

        def negative_log_likelihood(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            lam, log_shift = parameters.reshape(2, d)
            shift = np.exp(log_shift)
            log_w = np.log(u + shift)
            z, dz_dlam = _box_cox(log_w, lam)
            dz_dw = np.exp((lam - 1) * log_w)
            centred = z - z.mean(0)
            covariance = centred.T @ centred / len(u)
            sign, log_det = np.linalg.slogdet(covariance)
            if sign <= 0 or not np.isfinite(log_det):
                return np.inf, np.zeros_like(parameters)
            dL_dz = centred @ np.linalg.inv(covariance) / len(u)
            pull = _PULL * (np.sum((lam - 1) ** 2) + np.sum(log_shift**2))
            value = 0.5 * log_det - np.sum(np.mean((lam - 1) * log_w, 0)) + pull
            along_w = dL_dz * dz_dw - (lam - 1) * np.exp(-log_w) / len(u)
            d_lam = np.sum(dL_dz * dz_dlam - log_w / len(u), 0) + 2 * _PULL * (lam - 1)
            d_shift = np.sum(along_w, 0) * shift + 2 * _PULL * log_shift
            return value, np.concatenate([d_lam, d_shift])

        found = optimize.minimize(
            negative_log_likelihood,
            np.concatenate([np.ones(d), np.full(d, -1.0)]),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-1, 3)] * d + [(-7, 3)] * d,
            options={"maxiter": 300, "maxfun": 1200, "ftol": 1e-13, "gtol": 1e-7, "maxcor": 40},
        )
        lam, log_shift = found.x.reshape(2, d)
        return cls(low, scale, np.exp(log_shift), lam)

    @classmethod
    def identity(cls, d: int) -> Self:
        return cls(np.zeros(d), np.ones(d), np.ones(d), np.ones(d))

    def forward(self, x: Array) -> tuple[Array, Array]:
        xp = x.__array_namespace__()
        u = (x - self.low) / self.scale
        # Clipped on both sides of the seam, so that no branch overflows under differentiation; not
        # by maximum, whose derivative at the seam itself, the least row, is a half.
        above, below = xp.where(u > 0, u, 0.0), xp.where(u > 0, 0.0, u) / self.shift
        log_w = xp.where(u > 0, xp.log(above + self.shift), xp.log(self.shift) + below)
        log_dw = xp.where(u > 0, 0.0, below)
        z, _ = _box_cox(log_w, self.lam)
        return z, xp.sum((self.lam - 1) * log_w + log_dw - xp.log(self.scale), axis=-1)

    def inverse(self, z: Array) -> Array:
        xp = z.__array_namespace__()
        linear = xp.abs(self.lam) < _LOG_BELOW
        lam = xp.where(linear, 1.0, self.lam)
        # z has a bound where λ ≠ 0: beyond it there is no x, and the nearest one is returned.
        power = xp.log(xp.maximum(lam * z + 1, np.finfo(np.float32).tiny)) / lam
        log_w = xp.where(linear, z, power)
        w = xp.exp(log_w)
        below = self.shift * (log_w - xp.log(self.shift))
        return self.low + self.scale * xp.where(w > self.shift, w - self.shift, below)


_LOG_BELOW = 1e-6  # |λ| below which the transform is the logarithm


def _box_cox(log_w: Array, lam: Array) -> tuple[Array, Array]:
    """(w^λ − 1) / λ and its derivative in λ, from log w."""
    xp = log_w.__array_namespace__()
    linear = xp.abs(lam) < _LOG_BELOW
    safe = xp.where(linear, 1.0, lam)
    z = xp.where(linear, log_w, xp.expm1(safe * log_w) / safe)
    dz_dlam = xp.where(linear, log_w**2 / 2, (xp.exp(safe * log_w) * log_w - z) / safe)
    return z, dz_dlam


class Chain(eqx.Module):
    """One bijection after another; itself used as one.

    With a `condition`, which comes last, it is T(x | c) for standardised c.
    """

    parts: tuple[AbstractBijection, ...]
    condition: "Conditioning | None" = None

    @classmethod
    def fitted(cls, families: tuple[type[AbstractBijection], ...], x: np.ndarray) -> Self:
        """Every family fitted to what the ones before it made of rows (n, d)."""
        parts = []
        for family in families:
            parts.append(family.fitted(x))
            x = parts[-1].forward(x)[0]
        return cls(tuple(parts))

    @classmethod
    def identity(cls, families: tuple[type[AbstractBijection], ...], d: int) -> Self:
        return cls(tuple(family.identity(d) for family in families))

    def forward(self, x: Array, c: Array | None = None) -> tuple[Array, Array]:
        """z (..., d), and log |det ∂T/∂x| (...,); without c, of the parts alone."""
        xp = x.__array_namespace__()
        total = xp.zeros(x.shape[:-1], x.dtype)
        for part in self.parts:
            x, log_det = part.forward(x)
            total = total + log_det
        if self.condition is not None and c is not None:
            x, log_det = self.condition.forward(x, c)
            total = total + log_det
        return x, total

    def inverse(self, z: Array, c: Array | None = None) -> Array:
        """x (..., d)."""
        if self.condition is not None and c is not None:
            z = self.condition.inverse(z, c)
        for part in reversed(self.parts):
            z = part.inverse(z)
        return z


class Conditioning(eqx.Module):
    """What rows are conditioned on, standardised, and what a regression on it leaves of the rows.

        y = R(z − c W)

    with W of least squares and R the bijection that suits the residuals: what is linear in c is
    found in closed form and not left to a network. Without R, y = z.
    """

    scaling: Scaling
    W: np.ndarray
    residual: AbstractBijection | None

    @classmethod
    def fitted(cls, c: np.ndarray, z: np.ndarray, family: type[AbstractBijection] | None) -> Self:
        """By rows c (n, k) and z (n, d), in the order given."""
        scaling, W = Scaling.fitted(c), np.zeros((c.shape[1], z.shape[1]))
        if family is None:
            return cls(scaling, W, None)
        standard, _ = scaling.forward(c)
        W = np.linalg.lstsq(standard, z - z.mean(0))[0]
        return cls(scaling, W, family.fitted(z - standard @ W))

    @classmethod
    def identity(cls, k: int, d: int, family: type[AbstractBijection] | None) -> Self:
        """Of the same structure, changing nothing."""
        residual = None if family is None else family.identity(d)
        return cls(Scaling.identity(k), np.zeros((k, d)), residual)

    def standardised(self, c: Array) -> Array:
        """c (..., k) to mean 0 and variance 1."""
        return self.scaling.forward(c)[0]

    def forward(self, z: Array, c: Array) -> tuple[Array, Array]:
        """y (..., d) for standardised c, and log |det ∂y/∂z| (...,)."""
        if self.residual is None:
            return z, z.__array_namespace__().zeros(z.shape[:-1], z.dtype)
        return self.residual.forward(z - c @ self.W)

    def inverse(self, y: Array, c: Array) -> Array:
        """z (..., d)."""
        return y if self.residual is None else self.residual.inverse(y) + c @ self.W
