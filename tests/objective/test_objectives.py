"""What every objective promises, for all of the catalogue."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import OBJECTIVES, mixture, random_model
from standard_errors import assert_mean

from scoreode.model.config import COMPONENTS, from_json, to_json
from scoreode.objective import Objective
from scoreode.process import VE

PROCESS = VE(0.1, 10.0)
END = jnp.asarray(1.0)  # of training: ramps of weights are over


@pytest.fixture(params=OBJECTIVES)
def objective(request):
    return OBJECTIVES[request.param](PROCESS)


@eqx.filter_jit
def step(objective, model, key):
    """The loss of a few new rows, its terms, and the objective of the next step."""
    key_rows, key = jr.split(key)
    return objective(model, mixture(PROCESS, 2).sample(key_rows, 32), key, END)


def test_it_is_written_to_json_and_read_back(objective):
    assert isinstance(objective, Objective)
    again = from_json(to_json(objective))
    assert to_json(again) == to_json(objective)
    assert (again.order, again.process) == (objective.order, PROCESS)


def test_every_objective_of_a_run_is_listed():
    objectives = {cls for cls in COMPONENTS.values() if {"order", "n_probes"} <= fields(cls)}
    assert objectives == {type(make(PROCESS)) for make in OBJECTIVES.values()}


@pytest.mark.slow
def test_its_loss_is_finite_equal_for_equal_keys_and_trains(objective):
    model = random_model(PROCESS, 2, 0.5)
    gradient = eqx.filter_grad(lambda m, key: step(objective, m, key)[0])
    loss, (terms, following) = step(objective, model, jr.key(1))
    assert np.isfinite(loss)
    assert all(np.isfinite(value) for value in terms.values())
    assert loss == step(objective, model, jr.key(1))[0] != step(objective, model, jr.key(2))[0]
    shapes = [
        jax.tree.map(lambda a: (a.shape, a.dtype), eqx.filter(o, eqx.is_array))
        for o in (objective, following)
    ]
    assert shapes[0] == shapes[1], "the next step is compiled already"
    leaves = jax.tree.leaves(eqx.filter(gradient(model, jr.key(1)).network, eqx.is_array))
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
    assert any(np.any(leaf) for leaf in leaves)


@pytest.mark.slow
def test_its_gradient_vanishes_at_the_truth(objective):
    """In a direction of wrong scores, the mean over draws is 0 where the score is exact."""
    oracle = mixture(PROCESS, 2)

    class Shifted(eqx.Module):
        size: jax.Array

        def __call__(self, x, t):
            wrong = jnp.sin(x[::-1]) / (1 + PROCESS.sigma(t))
            return oracle(x, t) + self.size * wrong

    slope = eqx.filter_jit(
        jax.vmap(jax.grad(lambda size, key: step(objective, Shifted(size), key)[0]), (None, 0))
    )
    assert_mean(np.asarray(slope(jnp.asarray(0.0), jr.split(jr.key(5), 200))), 0.0)


def shapes(tree):
    return [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


def fields(cls):
    return {field.name for field in dataclasses.fields(cls)}
