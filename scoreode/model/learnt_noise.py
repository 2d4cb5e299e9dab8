"""Noise on a grid that is learnt with the model: variational dequantisation.

The noise r(u | x) is trained by gradients of E [bound on −log p(x + u) + log r(u | x)], which
bounds −log P(cell) (Ho et al. 2019).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Batch, Loss, Pairs, Referenced, Scalar
from scoreode.data import Dataset
from scoreode.flow import (
    AbstractDequantisation,
    LogitNormal,
    Uniform,
    logit_normal,
    map_rows,
    nll_bound,
    rows_at_once,
)
from scoreode.model.density import Density
from scoreode.model.dequantised import AbstractTrainingNoise, AddNoise, check_grid_declared
from scoreode.model.standardise import Chain
from scoreode.network import CellNoise, Specification
from scoreode.process import AbstractProcess
from scoreode.score import ScoreModel, condition_on


@dataclass(frozen=True)
class LearntNoise(AbstractTrainingNoise):
    """u = bin width · sigmoid(a(x) + e^b(x) ε), with a and b by networks of this specification."""

    name = "variational"
    begins_at_grid = False
    in_loss = True

    specification: Specification

    def process(self, process: AbstractProcess, data: Dataset, bijection: Chain) -> AbstractProcess:
        check_grid_declared(self, data)
        return process

    def in_batches(self, uniform: Uniform) -> AddNoise | None:
        return None

    def network(self, d: int, key: PRNGKeyArray) -> CellNoise | None:
        return CellNoise.build(self.specification, d, key)

    def loss(self, loss: Loss, bijection: Chain, bin_width: Any) -> Loss:
        return WithNoise.of(loss, bijection, bin_width)

    def dequantisation(self, density: Density, uniform: Uniform) -> AbstractDequantisation:
        width = np.asarray(uniform.bin_width)
        return LogitNormal(width, uniform.bin_edge, partial(_cells, density, width))


def _cells(
    density: Density, width: np.ndarray, x: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """Location and log-scale of the noise in the cells of rows."""
    middle, _ = density.bijection.forward(np.asarray(x + width / 2, np.float64))
    z = np.asarray(middle, np.float32)
    noise: Any = density.score_model.noise  # a run with this noise has one
    a, b = map_rows(noise, (), (z,), rows_at_once(x.shape[1], 0))
    return a.astype(np.float64), b.astype(np.float64)


class WithNoise(eqx.Module):
    """A loss of standardised rows plus the loss of the noise that dequantises them.

    The loss trains only the model, with the noise held constant. A bound on −log P(cell) trains the
    noise, with the model held constant.

    **Cost** of a step: that of the loss, one evaluation of the score and its gradient in x, and one
    of the two small networks of the noise.
    """

    loss: Loss
    bijection: Chain
    bin_width: Float[Array, " widths"]

    @classmethod
    def of(cls, loss: Loss, bijection: Chain, bin_width: Any) -> Self:
        """The loss with its arrays in float32 on the device."""
        bijection = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), bijection)
        return cls(loss, bijection, jnp.atleast_1d(jnp.asarray(bin_width, jnp.float32)))

    def __call__(
        self, model: ScoreModel, batch: Batch | Referenced, key: PRNGKeyArray, progress: Scalar
    ) -> tuple[Scalar, tuple[Mapping[str, Scalar], Self]]:
        assert not isinstance(batch, Referenced)  # its noise would take the place of rows
        x, c = batch if isinstance(batch, Pairs) else (batch, None)
        key_eps, key_loss, key_bound = jr.split(key, 3)
        middle, _ = self.bijection.forward(x + self.bin_width / 2)
        assert model.noise is not None  # a run with this loss builds one
        a, b = jax.vmap(model.noise)(jnp.asarray(middle))
        offset, log_r = logit_normal(a, b, jr.normal(key_eps, x.shape, x.dtype), self.bin_width)
        z, log_det = map(jnp.asarray, self.bijection.forward(x + offset, c))

        constant_z = jax.lax.stop_gradient(z)
        rows = constant_z if c is None else Pairs(constant_z, c)
        loss, (terms, new_loss) = self.loss(model, rows, key_loss, progress)

        arrays, static = eqx.partition(model, eqx.is_inexact_array)
        constant_model = eqx.combine(jax.lax.stop_gradient(arrays), static)

        def bound(key: PRNGKeyArray, z: Array, c: Array | None) -> Scalar:
            return nll_bound(condition_on(constant_model, c), model.process, key, z, n_times=1)

        keys = jr.split(key_bound, len(z))
        nats = jnp.mean(jax.vmap(bound)(keys, z, c) - log_det + log_r)
        new = eqx.tree_at(lambda self: self.loss, self, new_loss)
        return loss + nats / x[0].size, ({**terms, "nll_bound": nats}, new)
