r"""Data on a grid: the noise that a run trains with, and that its log-masses are evaluated with.

- `UniformNoise` fills the cells, new at every draw.
- `DiffusionNoise` adds none in training. The diffusion begins at the noise that keeps neighbouring
  values apart, half a cell being three standard deviations; that noise, cut off at the cell's
  edges, is evaluated with (Zheng et al. 2023).
- `RawBytes` adds none in training, and uniform noise in evaluation.
- `LearntNoise`, in `model.learnt_noise`, is trained with the model.

To add one, write a final class and name it in `model.config`.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import brentq

from scoreode._typing import Loss
from scoreode.data import Dataset
from scoreode.errors import InputError
from scoreode.flow import AbstractDequantisation, TruncatedNormal, Uniform
from scoreode.model.density import Density
from scoreode.model.standardise import Centring, Chain, Scaling
from scoreode.network import CellNoise
from scoreode.process import VE, AbstractProcess

_DEVIATIONS = 3.0  # of the noise at t_min within half a cell: 0.3 % of it is cut off
AddNoise = Callable[[PRNGKeyArray, Array], Array]
"""A key and values to values with noise, in the units of the data."""


@dataclass(frozen=True)
class AbstractTrainingNoise(abc.ABC):
    """How values on a grid become rows of a density, in training and for log-masses."""

    name: ClassVar[str]
    begins_at_grid: ClassVar[bool]
    """Whether the grid decides where the diffusion begins."""
    in_loss: ClassVar[bool]
    """Whether the loss, not the sampler of batches, turns values into standardised rows."""

    @abc.abstractmethod
    def process(self, process: AbstractProcess, data: Dataset, bijection: Chain) -> AbstractProcess:
        """The process on these data. **Raises:** `InputError` for data that the noise cannot treat:
        without a grid, or standardised in a way that mixes it."""

    @abc.abstractmethod
    def in_batches(self, uniform: Uniform) -> AddNoise | None:
        """The noise that every batch draws anew, if it does."""

    @abc.abstractmethod
    def network(self, d: int, key: PRNGKeyArray) -> CellNoise | None:
        """The untrained network that places values in the cells of d columns, if there is one."""

    @abc.abstractmethod
    def loss(self, loss: Loss, bijection: Chain, bin_width: Any) -> Loss:
        """The loss that trains the model, and the noise where it is learnt."""

    @abc.abstractmethod
    def dequantisation(self, density: Density, uniform: Uniform) -> AbstractDequantisation:
        """The noise that log-masses are evaluated with, on the grid of this uniform one."""


@dataclass(frozen=True)
class UniformNoise(AbstractTrainingNoise):
    """u ~ U[0, bin width), new at every draw."""

    name = "uniform"
    begins_at_grid = False
    in_loss = False

    def process(self, process: AbstractProcess, data: Dataset, bijection: Chain) -> AbstractProcess:
        return process

    def in_batches(self, uniform: Uniform) -> AddNoise | None:
        return uniform

    def network(self, d: int, key: PRNGKeyArray) -> CellNoise | None:
        return None

    def loss(self, loss: Loss, bijection: Chain, bin_width: Any) -> Loss:
        return loss

    def dequantisation(self, density: Density, uniform: Uniform) -> AbstractDequantisation:
        return uniform


@dataclass(frozen=True)
class DiffusionNoise(AbstractTrainingNoise):
    """The noise of the diffusion at its beginning, a normal distribution within ±½ bin width."""

    name = "truncated-normal"
    begins_at_grid = True
    in_loss = False

    def process(self, process: AbstractProcess, data: Dataset, bijection: Chain) -> AbstractProcess:
        check_grid_declared(self, data)
        if not np.all(np.asarray(data.bin_width) > 0):
            raise InputError(
                f"dequantise {self.name}: takes a grid for every column, and some are continuous;"
                " take uniform or variational"
            )
        if not all(isinstance(part, Scaling | Centring) for part in bijection.parts):
            raise InputError(
                f"dequantise {self.name}: the standardisation mixes or bends columns; take centre"
                " or scale"
            )
        noise = float(np.min(np.asarray(data.bin_width) / 2 / _DEVIATIONS / _units(bijection)))
        return _from_noise(process, noise)

    def in_batches(self, uniform: Uniform) -> AddNoise | None:
        return None

    def network(self, d: int, key: PRNGKeyArray) -> CellNoise | None:
        return None

    def loss(self, loss: Loss, bijection: Chain, bin_width: Any) -> Loss:
        return loss

    def dequantisation(self, density: Density, uniform: Uniform) -> AbstractDequantisation:
        process = density.score_model.process
        std = _noise_to_signal(process, process.t_min) * _units(density.bijection)
        return TruncatedNormal(uniform.bin_width, std, uniform.bin_edge)


@dataclass(frozen=True)
class RawBytes(UniformNoise):
    """Pixels as Song et al. (2021) take them: b/255 in training, (b + u)/256 in evaluation.

    In the units of bytes training has b · 256/255, which lies in b's cell [b, b + 1].
    """

    name = "raw"

    def in_batches(self, uniform: Uniform) -> AddNoise | None:
        return _stretch


def _stretch(_: PRNGKeyArray, x: Array) -> Array:
    return x * (256 / 255)


def check_grid_declared(noise: AbstractTrainingNoise, data: Dataset) -> None:
    """Raises `InputError` for data without a grid."""
    if data.bin_width is None:
        raise InputError(
            f"dequantise {noise.name}: {data.name} is on no declared grid; give its bin width"
        )


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
