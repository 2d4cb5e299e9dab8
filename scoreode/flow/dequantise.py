"""Dequantisation: a density model as a model of discrete data.

A discrete value stands for a cell of a grid. For noise u ~ r within the cell, Jensen's inequality
gives

    log P(cell) ≥ E log (1/K) Σ_k p(x + u_k) / r(u_k),

and the bound rises to log P(cell) as K grows (Theis et al. 2016; Burda et al. 2016). A continuous
column has width 0 and no noise. With continuous columns, the bounded quantity is the mass of the
discrete columns times the density of the others. bits/dim is −log2 P(cell) / d; it exists only if
all columns are discrete.
"""

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from equinox import AbstractVar
from jaxtyping import Array, Float, PRNGKeyArray, Real
from scipy.special import ndtr, ndtri, softmax

from scoreode.flow.likelihood import LogLikelihood

Rows = Real[np.ndarray, "n d"]  # images may be uint8
Widths = float | Float[np.ndarray, " widths"]
Nats = TypeVar("Nats", float, np.ndarray)


class AbstractDequantisation(eqx.Module):
    """A distribution r of noise in the cells of a grid with one width, or one width per column."""

    bin_width: AbstractVar[Widths]

    @abc.abstractmethod
    def noise(self, u: Rows, x: Rows) -> tuple[Rows, Float[np.ndarray, " n"]]:
        """The noise from uniforms u in [0, 1), in the units of x, and its log-density log r.

        Missing values, NaN, have no noise; `Uniform` alone knows of them.
        """

    @abc.abstractmethod
    def quantise(self, x: Rows) -> Rows:
        """The grid values whose cells contain x; continuous columns stay unchanged."""

    def add_noise(
        self,
        x: Rows,
        seed: int = 0,
        draw: int = 0,
        first_row: int = 0,
        numbers: np.ndarray | None = None,
    ) -> tuple[Rows, Float[np.ndarray, " n"]]:
        """x + u and log r(u); u is determined by the seed, the draw, x and the row's number."""
        offset, log_r = self.noise(_uniforms(x, seed, draw, first_row, numbers), x)
        return x + offset, log_r

    def dequantise(self, x: Rows, seed: int = 0, draw: int = 0, first_row: int = 0) -> Rows:
        """x + u, as `add_noise` returns it."""
        return self.add_noise(x, seed, draw, first_row)[0]

    def log_mass(
        self,
        log_density: Callable[[Rows], LogLikelihood],
        x: Rows,
        samples: int = 1,
        seed: int = 0,
        first_row: int = 0,
        numbers: np.ndarray | None = None,
    ) -> LogLikelihood:
        """The K-sample bound on log P(cell) of every row, in nats.

        **Arguments:** `log_density` of dequantised rows; `samples`, K; `first_row`, the number of
        the first row in its table, on which the noise depends, or `numbers`, those of all rows.

        **Returns:** a `LogLikelihood` with the bound as `nats` and `nfe` summed over the samples.

        **Cost:** K log-densities per row.
        """
        records, log_ratios = [], []
        for draw in range(samples):
            noisy, log_r = self.add_noise(x, seed, draw, first_row, numbers)
            records.append(log_density(noisy))
            log_ratios.append(records[-1].nats - log_r)
        weights = softmax(log_ratios, axis=0)

        def stack(name: str) -> np.ndarray:
            return np.stack([getattr(record, name) for record in records])

        return LogLikelihood(
            nats=np.logaddexp.reduce(log_ratios) - math.log(samples),
            stderr=np.sqrt(np.sum((weights * stack("stderr")) ** 2, 0)),
            nfe=stack("nfe").sum(0),
            converged=np.all(stack("converged"), axis=0),
            latent=records[0].latent,
            error=np.sum(weights * stack("error"), 0),
        )

    def bits_per_dim(self, nats: Nats, d: int) -> Nats | None:
        """Bits/dim from log P(cell) in nats, for d columns; None if a column is continuous."""
        return -nats / d / math.log(2) if np.all(np.asarray(self.bin_width) > 0) else None


class Uniform(AbstractDequantisation):
    """u ~ U[0, bin_width): x is the lower edge of its cell; `bin_edge` is the edge of one cell."""

    bin_width: Widths
    bin_edge: Widths = 0.0

    def __call__(self, key: PRNGKeyArray, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """x + u on the device, for training: every key gives new noise."""
        return x + jnp.asarray(self.bin_width, x.dtype) * jr.uniform(key, x.shape, x.dtype)

    def noise(self, u: Rows, x: Rows) -> tuple[Rows, Float[np.ndarray, " n"]]:
        width = np.broadcast_to(self.bin_width, u.shape[1:])
        log_width = np.log(width, where=width > 0, out=_zeros(u))
        of_missing = np.sum(np.where(np.isnan(x), log_width, 0.0), axis=1)
        return width * u, np.full(len(u), -np.sum(log_width)) + of_missing

    def quantise(self, x: Rows) -> Rows:
        return _round(np.floor, x, self.bin_width, self.bin_edge)


def uniform_noise(
    bin_width: float | Sequence[float] | None, bin_edge: float | Sequence[float] = 0.0
) -> Uniform | None:
    """The uniform dequantisation for data on this grid; None for continuous data."""
    if bin_width is None:
        return None
    return Uniform(*(np.atleast_1d(np.asarray(a, np.float64)) for a in (bin_width, bin_edge)))


class TruncatedNormal(AbstractDequantisation):
    """u ~ N(0, std²) within ±bin_width/2: x is the middle of its cell.

    `bin_middle` is the middle of one cell. For models trained on the grid's values without noise
    (Zheng et al. 2023): such a model describes x plus the diffusion's noise at t_min. Training and
    evaluation agree if `std` is that noise, σ/α at t_min in the units of x.
    """

    bin_width: Widths
    std: Widths
    bin_middle: Widths = 0.0

    def noise(self, u: Rows, x: Rows) -> tuple[Rows, Float[np.ndarray, " n"]]:
        width, std = (np.broadcast_to(w, u.shape[1:]) for w in (self.bin_width, self.std))
        half = np.where(width > 0, width / 2 / std, 1.0)
        mass = 1 - 2 * ndtr(-half)
        z = ndtri(ndtr(-half) + u * mass)
        log_r = -0.5 * z**2 - np.log(std * math.sqrt(2 * math.pi)) - np.log(mass)
        return np.where(width > 0, std * z, 0.0), np.sum(np.where(width > 0, log_r, 0.0), 1)

    def quantise(self, x: Rows) -> Rows:
        return _round(np.rint, x, self.bin_width, self.bin_middle)


class LogitNormal(AbstractDequantisation):
    """Variational dequantisation: u = bin_width · sigmoid(a(x) + e^b(x) ε), with trained a and b.

    x is the lower edge of its cell; `cells` maps rows to a and b (Ho et al. 2019).
    """

    bin_width: Widths
    bin_edge: Widths
    cells: Callable[[Rows], tuple[Rows, Rows]]

    def noise(self, u: Rows, x: Rows) -> tuple[Rows, Float[np.ndarray, " n"]]:
        width = np.broadcast_to(self.bin_width, u.shape[1:])
        eps = ndtri(np.maximum(u, np.finfo(np.float64).tiny))
        return logit_normal(*self.cells(x), eps, width)

    def quantise(self, x: Rows) -> Rows:
        return _round(np.floor, x, self.bin_width, self.bin_edge)


def logit_normal(a: Any, b: Any, eps: Any, width: Any) -> tuple[Any, Any]:
    """u = width · sigmoid(a + e^b ε) and its log-density, for NumPy or JAX rows (..., d).

    With the logit y, log r = Σ [log N(ε) − b − log width − log sigmoid(y) − log sigmoid(−y)], where
    the sum is over columns of positive width.
    """
    xp = eps.__array_namespace__()
    y = a + xp.exp(b) * eps
    cells = width > 0
    log_normal = -0.5 * eps**2 - 0.5 * math.log(2 * math.pi)
    log_slope = b + xp.log(xp.where(cells, width, 1.0))
    log_r = log_normal - log_slope + xp.logaddexp(y, 0.0) + xp.logaddexp(-y, 0.0)
    u = width * 0.5 * (1 + xp.tanh(y / 2))  # the sigmoid without overflow
    return u, xp.sum(xp.where(cells, log_r, 0.0), axis=-1)


def _zeros(u: Rows) -> Float[np.ndarray, " d"]:
    return np.zeros(u.shape[1:])


def _round(rounding: np.ufunc, x: Rows, width: Widths, origin: Widths) -> Rows:
    """x rounded to origin + integer · width, in columns of positive width."""
    step = np.where(np.asarray(width) > 0, width, 1.0)
    return np.where(np.asarray(width) > 0, origin + step * rounding((x - origin) / step), x)


def _uniforms(
    x: Rows, seed: int, draw: int, first_row: int, numbers: np.ndarray | None = None
) -> Rows:
    """U[0, 1) for every value, from one stream of random numbers for all rows of the table.

    **Arguments:** `numbers` of the rows (None: they follow `first_row`).
    """
    if numbers is not None:
        ends = np.flatnonzero(numbers[1:] != numbers[:-1] + 1) + 1
        parts = zip(np.split(x, ends), np.split(numbers, ends), strict=True)
        return np.concatenate([_uniforms(a, seed, draw, int(b[0])) for a, b in parts if len(b)])
    generator = np.random.PCG64([seed, draw])
    generator.advance(first_row * x.shape[1])
    return np.random.Generator(generator).random(x.shape)
