r"""Data on a grid: the noise that a run trains with, and that its log-masses are evaluated with.

- uniform: noise that fills the cells, new at every draw.
- variational: noise r(u | x) learnt with the model, by gradients of E [bound on −log p(x + u) + log
  r(u | x)], which bounds −log P(cell) (Ho et al. 2019).
- truncated-normal: none in training. The diffusion begins at the noise that keeps neighbouring
  values apart, half a cell being three standard deviations; that noise, cut off at the cell's
  edges, is evaluated with (Zheng et al. 2023).
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import brentq

from scoreode._typing import Batch, Loss, Pairs, Scalar
from scoreode.data import Dataset
from scoreode.density import Density
from scoreode.errors import InputError
from scoreode.flow import (
    AbstractDequantisation,
    LogitNormal,
    TruncatedNormal,
    declared,
    logit_normal,
    map_rows,
    nll_bound,
    rows_at_once,
)
from scoreode.process import VE, AbstractProcess
from scoreode.recipes import STANDARDISATIONS, Run
from scoreode.score import ScoreModel, given
from scoreode.standardise import Centring, Chain, Scaling

_DEVIATIONS = 3.0  # of the noise at t_min within half a cell: 0.3 % of it is cut off

Widths = float | Float[np.ndarray, " widths"]


def dequantisation(
    run: Run, density: Density, bin_width: Any, bin_edge: Any
) -> AbstractDequantisation | None:
    """How values on this grid become rows of the density; None without a grid."""
    uniform = declared(bin_width, bin_edge)
    if uniform is None or run.dequantise == "uniform":
        return uniform
    width, edge = uniform.bin_width, uniform.bin_edge
    if run.dequantise == "variational":
        return LogitNormal(width, edge, partial(_cells, density, np.asarray(width)))
    process = density.score_model.process
    std = _noise_to_signal(process, process.t_min) * _units(density.bijection)
    return TruncatedNormal(width, std, edge)


def suited(run: Run, data: Dataset, bijection: Chain) -> Run:
    """The run on these data: truncated normal noise decides where its diffusion begins.

    **Raises:** `InputError` for data without the grid that a dequantisation is for, and for
    standardisations that do not scale noise column by column.
    """
    if run.dequantise == "uniform":
        return run
    if data.bin_width is None:
        raise InputError(
            f"dequantise {run.dequantise}: {data.name} is on no declared grid; give its bin width"
        )
    if run.dequantise == "variational":
        return run
    if not np.all(np.asarray(data.bin_width) > 0):
        raise InputError(
            "dequantise truncated-normal: takes a grid for every column, and some are continuous;"
            " take uniform or variational"
        )
    if not set(STANDARDISATIONS[run.standardise]) <= {Scaling, Centring}:
        raise InputError(
            f"dequantise truncated-normal: standardise {run.standardise} mixes or bends columns;"
            " take centre or scale"
        )
    noise = float(np.min(np.asarray(data.bin_width) / 2 / _DEVIATIONS / _units(bijection)))
    process = _from_noise(run.objective.process, noise)
    return replace(run, objective=replace(run.objective, process=process))


def _units(bijection: Chain) -> Float[np.ndarray, " units"]:
    """The scale of a bijection that only scales and shifts."""
    (scaling,) = bijection.parts
    return np.asarray(scaling.scale, np.float64)  # pyright: ignore[reportAttributeAccessIssue]


def _noise_to_signal(process: AbstractProcess, t: float) -> float:
    """σ/α at t."""
    return float(jnp.exp(-process.log_snr(jnp.asarray(t, jnp.float32)) / 2))


def _from_noise(process: AbstractProcess, noise: float) -> AbstractProcess:
    """The process that begins where σ/α is this."""
    if isinstance(process, VE):
        return replace(process, sigma_min=noise)

    def excess(log_t: float) -> float:
        return np.log(_noise_to_signal(process, np.exp(log_t)) / noise)

    log_t: Any = brentq(excess, np.log(1e-9), np.log(process.t_max), xtol=1e-6)
    return replace(process, t_min=float(np.exp(log_t)))


def _cells(
    density: Density, width: Widths, x: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """Location and log-scale of the noise in the cells of rows."""
    middle, _ = density.bijection.forward(np.asarray(x + width / 2, np.float64))
    z = np.asarray(middle, np.float32)
    noise: Any = density.score_model.noise  # a run with this dequantisation has one
    a, b = map_rows(noise, (), (z,), rows_at_once(x.shape[1], 0))
    return a.astype(np.float64), b.astype(np.float64)


class WithNoise(eqx.Module):
    """A loss of standardised rows, and that of the noise which turns values on a grid into them.

    The model is trained by the loss alone, on rows with the noise as it stands; the noise by a
    bound on −log P(cell), the model being held constant.

    **Cost:** of a step, that of the loss, one evaluation of the score and its gradient in x, and
    of the two small networks of the noise.
    """

    loss: Loss
    bijection: Chain
    bin_width: Float[Array, " widths"]

    @classmethod
    def of(cls, loss: Loss, bijection: Chain, bin_width: Any) -> Self:
        """With arrays as they are on the device."""
        bijection = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), bijection)
        return cls(loss, bijection, jnp.atleast_1d(jnp.asarray(bin_width, jnp.float32)))

    def __call__(
        self, model: ScoreModel, batch: Batch, key: PRNGKeyArray, progress: Scalar
    ) -> tuple[Scalar, tuple[Mapping[str, Scalar], Self]]:
        x, c = batch if isinstance(batch, Pairs) else (batch, None)
        key_eps, key_loss, key_bound = jr.split(key, 3)
        middle, _ = self.bijection.forward(x + self.bin_width / 2)
        assert model.noise is not None  # a run with this loss builds one
        a, b = jax.vmap(model.noise)(jnp.asarray(middle))
        offset, log_r = logit_normal(a, b, jr.normal(key_eps, x.shape, x.dtype), self.bin_width)
        z, log_det = map(jnp.asarray, self.bijection.forward(x + offset, c))

        still = jax.lax.stop_gradient(z)
        rows = still if c is None else Pairs(still, c)
        loss, (terms, following) = self.loss(model, rows, key_loss, progress)

        arrays, static = eqx.partition(model, eqx.is_inexact_array)
        fixed = eqx.combine(jax.lax.stop_gradient(arrays), static)

        def bound(key: PRNGKeyArray, z: Array, c: Array | None) -> Scalar:
            return nll_bound(given(fixed, c), model.process, key, z, n_times=1)

        keys = jr.split(key_bound, len(z))
        nats = jnp.mean(jax.vmap(bound)(keys, z, c) - log_det + log_r)
        following = eqx.tree_at(lambda self: self.loss, self, following)
        return loss + nats / x[0].size, ({**terms, "nll_bound": nats}, following)
