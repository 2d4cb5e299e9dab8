"""A stand-in for `scoreode.train.train`, where it is not training that is tested."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from scoreode.train import Budget, Report


def untrained(state: Any, _sampler: Any, _optimiser: Any, budget: Budget, *_: Any) -> Iterator:
    """All steps at once, which leave the weights as they are."""
    steps = budget.steps or 1
    state = eqx.tree_at(lambda state: state.step, state, jnp.asarray(steps))
    yield Report(state, steps, 1.0, 1.0, 1.0, {"loss": 0.0})
