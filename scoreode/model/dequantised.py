r"""Data on a grid: the noise that a run trains with, and that its log-masses are evaluated with.

- uniform: noise that fills the cells, new at every draw.
- variational: noise r(u | x) learnt with the model, by gradients of E [bound on −log p(x + u) + log
  r(u | x)], which bounds −log P(cell) (Ho et al. 2019).
- truncated-normal: none in training. The diffusion begins at the noise that keeps neighbouring
  values apart, half a cell being three standard deviations; that noise, cut off at the cell's
  edges, is evaluated with (Zheng et al. 2023).
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from scoreode.data import Dataset
from scoreode.errors import InputError
from scoreode.flow import (
    AbstractDequantisation,
    LogitNormal,
    TruncatedNormal,
    map_rows,
    rows_at_once,
    uniform_noise,
)
from scoreode.model.config import STANDARDISATIONS, Run
from scoreode.model.density import Density
from scoreode.model.standardise import Centring, Chain, Scaling
from scoreode.process import VE, AbstractProcess

_DEVIATIONS = 3.0  # of the noise at t_min within half a cell: 0.3 % of it is cut off


Widths = float | Float[np.ndarray, " widths"]


def dequantisation(
    run: Run, density: Density, bin_width: Any, bin_edge: Any
) -> AbstractDequantisation | None:
    """How values on this grid become rows of the density; None without a grid."""
    uniform = uniform_noise(bin_width, bin_edge)
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
