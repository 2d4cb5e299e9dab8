"""The learning rate and the update of a training step."""

from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from scoreode._typing import Scalar

_TICKS = 1_000_000  # Optax's schedules count steps; ours count millionths of the progress


class Schedule(eqx.Module):
    """The learning rate over progress: linear warm-up to `peak`, then cosine decay to 0.

    Without `decay` it stays at the peak.
    """

    peak: float
    warmup: float = 0.02
    decay: bool = True

    def __call__(self, progress: Scalar) -> Scalar:
        warmup = round(self.warmup * _TICKS)
        if self.decay:
            schedule = optax.warmup_cosine_decay_schedule(0.0, self.peak, warmup, _TICKS)
        else:
            rise = optax.linear_schedule(0.0, self.peak, warmup)
            schedule = optax.join_schedules([rise, optax.constant_schedule(self.peak)], [warmup])
        return jnp.asarray(schedule(progress * _TICKS), progress.dtype)


@lru_cache
def adam(
    clip: float = 1.0, b2: float = 0.99, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Adam with clipping of the gradient's norm, and decoupled weight decay of linear maps.

    Cached, because a compiled step is reused only with the same object.
    """
    parts = [optax.clip_by_global_norm(clip), optax.scale_by_adam(b2=b2)]
    if weight_decay:
        parts.append(optax.add_decayed_weights(weight_decay, _is_weight))
    return optax.chain(*parts)


def _is_weight(tree: PyTree) -> PyTree[bool]:
    """Whether a leaf is the weight of a linear map or a convolution.

    Those are not biases, constants, or the scales of a normalisation, which are vectors.
    """

    def is_weight(path: tuple, leaf: Array) -> bool:
        return getattr(path[-1], "name", None) == "weight" and leaf.ndim > 1

    return jax.tree_util.tree_map_with_path(is_weight, tree)


class Optimiser(eqx.Module):
    """The settings of a training step besides the loss.

    The gradient of a batch is the mean of the gradients of `micro_batches` equal parts, computed
    one after another in the memory of one part.
    """

    transformation: optax.GradientTransformation
    schedule: Schedule
    ema_decay: float
    batch_size: int
    micro_batches: int = 1
