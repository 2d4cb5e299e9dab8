"""Noise on a grid that is learnt with the model."""

from collections.abc import Mapping
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Batch, Loss, Pairs, Scalar
from scoreode.flow import logit_normal, nll_bound
from scoreode.model.standardise import Chain
from scoreode.score import ScoreModel, given


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
