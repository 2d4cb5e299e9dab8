"""Training split over devices, over processes, and over parts of a batch: the same run."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from scoreode.data import toy
from scoreode.network import MLP
from scoreode.objective import (
    AdaptiveLikelihood,
    Antithetic,
    DenoisingScoreMatching,
    PosteriorMean,
)
from scoreode.process import VE
from scoreode.score import ScoreModel, Velocity
from scoreode.train import Budget, Optimiser, Rows, Schedule, TrainState, adam, train
from scoreode.train.samplers import WithReference

STEPS = 30


def trained(micro_batches=1, order=3):
    """A small network after some steps, and the means of the terms."""
    process = VE(0.01, 10.0)
    loss = DenoisingScoreMatching(
        process,
        order,
        weighting=AdaptiveLikelihood(),
        targets=PosteriorMean(64),
        noise=Antithetic(),
    )
    network = MLP(width=8, depth=1).build((2,), jr.key(0))
    optimiser = Optimiser(adam(), Schedule(1e-3), 0.99, 32, micro_batches)
    state = TrainState.initial(ScoreModel(process, Velocity(), network), loss, optimiser)
    rows = WithReference(Rows(jnp.asarray(toy.Moons()(jr.key(1), 200))), 64)
    *_, last = train(state, rows, optimiser, Budget(steps=STEPS), jr.key(2))
    arrays = [np.ravel(leaf) for leaf in jax.tree.leaves(last.state.ema)]
    return np.concatenate(arrays), np.array(list(last.terms.values()))


class Unstable(eqx.Module):
    """½ k ‖model − x‖², averaged: a step at a rate above 2/k diverges."""

    k: float

    def __call__(self, model, x, _key, _progress) -> tuple[Any, tuple[dict, "Unstable"]]:
        loss = 0.5 * self.k * jnp.mean(jnp.sum((model - x) ** 2, 1))
        return loss, ({"loss": loss}, self)


def recovered():
    """A vector that diverged at the first rate and at the second, and the steps gone back to."""
    optimiser = Optimiser(optax.identity(), Schedule(0.1, warmup=0.0), 0.9, 16)
    state = TrainState.initial(jnp.ones(3), Unstable(100.0), optimiser)
    rows = Rows(jr.normal(jr.key(0), (50, 3)))
    *_, last = train(state, rows, optimiser, Budget(steps=100), jr.key(1))
    return last.state.model, last.recoveries


SCRIPT = """
import sys, numpy as np
from test_devices import recovered, trained
import jax
assert jax.device_count() == 8
found = {}
for parts in (1, 2):
    found[f"weights {parts}"], found[f"terms {parts}"] = trained(parts)
vector, recoveries = recovered()
np.savez(sys.argv[1], **found, vector=vector, recoveries=recoveries)
"""


@pytest.fixture(scope="module")
def by_eight(tmp_path_factory):
    """What a process of eight devices finds."""
    path = tmp_path_factory.mktemp("eight") / "found.npz"
    flags = {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"}
    paths = {"PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, *sys.path)))}
    command = [sys.executable, "-c", SCRIPT, path]
    subprocess.run(command, check=True, env=os.environ | flags | paths, timeout=300)
    with np.load(path) as found:
        return dict(found)


@pytest.mark.slow
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_eight_devices_train_as_one(by_eight, micro_batches):
    weights, terms = trained(micro_batches)
    # Sums over the batch are taken in another order, at every one of the steps.
    np.testing.assert_allclose(by_eight[f"weights {micro_batches}"], weights, atol=STEPS * 1e-5)
    np.testing.assert_allclose(by_eight[f"terms {micro_batches}"], terms, rtol=1e-3)


@pytest.mark.slow
def test_eight_devices_go_back_as_one(by_eight):
    vector, recoveries = recovered()
    assert tuple(by_eight["recoveries"]) == recoveries == (0, 0)
    np.testing.assert_allclose(by_eight["vector"], vector, atol=1e-4)


class Counting(eqx.Module):
    """½‖model − x‖², averaged: draws nothing, and counts its calls."""

    seen: jax.Array

    def __call__(self, model, x, _key, _progress) -> tuple[Any, tuple[dict, "Counting"]]:
        loss = 0.5 * jnp.mean(jnp.sum((model - x) ** 2, 1))
        return loss, ({"loss": loss}, Counting(self.seen + 1))


def test_micro_batches_have_the_gradient_of_the_batch():
    """For a loss that draws nothing: the same steps but for rounding."""

    def found(parts):
        loss = Counting(jnp.zeros(()))
        optimiser = Optimiser(optax.identity(), Schedule(0.1), 0.9, 12, parts)
        state = TrainState.initial(jnp.ones(3), loss, optimiser)
        rows = Rows(jr.normal(jr.key(0), (50, 3)))
        *_, last = train(state, rows, optimiser, Budget(steps=20), jr.key(1))
        return last.state.model, last.state.loss.seen, last.terms["loss"]

    one, three = found(1), found(3)
    np.testing.assert_allclose(three[0], one[0], atol=1e-6)
    assert (one[1], three[1]) == (20, 60)
    assert three[2] == pytest.approx(one[2], rel=1e-5)
