"""A run that goes on from the whole training state of another one, against a step by hand."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from scoreode.data import from_rows
from scoreode.errors import InputError
from scoreode.model.config import PROCESSES, Run
from scoreode.network import MLP
from scoreode.objective import DenoisingScoreMatching
from scoreode.train import saved
from scoreode.train.batches import batches
from scoreode.train.trainer import fit, resume

ROWS = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
DATA = from_rows("rows", ROWS, ("a", "b"), 0, 0.0)
STEPS, PEAK, B2, EMA = 6, 2e-3, 0.999, 0.7


def run_of(order, steps):
    return Run(
        DenoisingScoreMatching(PROCESSES["ve"], order),
        network=MLP(8, 1),
        standardise="scale",
        steps=steps,
        batch_size=16,
        learning_rate=PEAK,
        learning_rate_decay=False,
        warmup=2 / steps,
        b2=B2,
        ema_decay=EMA,
    )


@pytest.fixture
def trained(tmp_path):
    """A run of order 1, and its state at the end."""
    fitted = fit(run_of(1, STEPS), DATA, path=tmp_path / "first")
    return fitted, saved.state(tmp_path / "first")


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


def assert_close(found, expected):
    for one, two in zip(leaves(found), leaves(expected), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-6)


def by_hand(run, density, state):
    """Model, average and moments after the state's next step, by the definitions of each."""
    key_x, key_loss = jr.split(jr.fold_in(jr.key(run.seed), int(state.step)))
    batch = batches(DATA, density.bijection)(key_x, run.batch_size)

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(model):
        return run.objective(model, batch, key_loss, jnp.float32(1.0))[0]

    g = gradient(state.model)
    norm = np.sqrt(sum(np.sum(leaf**2) for leaf in leaves(g)))
    g = jax.tree.map(lambda leaf: leaf / max(1.0, norm), g)
    _, adam = state.moments
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, adam.mu, g)
    v = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g**2, adam.nu, g)
    n = int(adam.count) + 1
    arrays, static = eqx.partition(state.model, eqx.is_inexact_array)
    arrays = jax.tree.map(
        lambda w, m, v: w - PEAK * (m / (1 - 0.9**n)) / (jnp.sqrt(v / (1 - B2**n)) + 1e-8),
        arrays,
        m,
        v,
    )
    model, ema = eqx.combine(arrays, static), eqx.filter(state.ema, eqx.is_inexact_array)
    decay = min(EMA, (1 + int(state.step)) / (10 + int(state.step)))
    return model, jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, ema, arrays), m, v


@pytest.mark.slow
def test_the_first_step_continues_weights_average_moments_and_count(trained, tmp_path):
    fitted, state = trained
    run = run_of(2, STEPS + 1)
    path = tmp_path / "second"
    further = fit(run, DATA, start=fitted.density, state=state, path=path)
    model, ema, m, v = by_hand(run, fitted.density, state)
    found = saved.state(path)
    _, adam = found.moments
    assert int(found.step) == int(adam.count) == further.steps == STEPS + 1
    assert_close(found.model, model)
    assert_close(found.ema, ema)
    assert_close(adam.mu, m)
    assert_close(adam.nu, v)
    # A new optimiser begins at 0, and so at another place after a step.
    new = fit(replace(run, steps=1), DATA, start=fitted.density, path=tmp_path / "new")
    _, fresh = saved.state(tmp_path / "new").moments
    assert (new.steps, int(fresh.count)) == (1, 1)
    gap = [np.linalg.norm(a - b) for a, b in zip(leaves(fresh.mu), leaves(m), strict=True)]
    assert max(gap) > 0.1 * max(np.linalg.norm(a) for a in leaves(m))


@pytest.mark.slow
def test_it_is_resumed_like_any_other(trained, tmp_path):
    """Stopped before its first step: the state that it began with is in its first checkpoint."""

    def stop(*_):
        raise KeyboardInterrupt

    fitted, state = trained
    run, begin = run_of(2, STEPS + 3), {"start": fitted.density, "state": state}
    whole = fit(run, DATA, **begin, path=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(replace(run, steps=STEPS + 200), DATA, **begin, path=tmp_path / "cut", observe=stop)
    later = resume(tmp_path / "cut", DATA)
    assert later.steps == STEPS + 200
    assert whole.steps == STEPS + 3
    straight = fit(replace(run, steps=STEPS + 200), DATA, **begin)
    for one, two in zip(leaves(later.density), leaves(straight.density), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_run_without_a_checkpoint_has_no_state(tmp_path):
    fit(run_of(1, 2), DATA, path=tmp_path / "run")
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        folder.rename(tmp_path / folder.name)
    with pytest.raises(InputError, match="no checkpoint"):
        saved.state(tmp_path / "run")
