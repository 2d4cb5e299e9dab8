"""What random probes do to the objectives, and what gradients do not flow through."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import naive
import numpy as np
import pytest
from catalogue import random_field
from standard_errors import assert_mean, z_scores

from scoreode.calculus import Basis, Rademacher
from scoreode.objective import DenoisingScoreMatching
from scoreode.process import VP

pytestmark = pytest.mark.usefixtures("x64", "strict")

D = 3
PROCESS = VP()
T = 0.3
NAMES = ("second", "second_trace", "third")


def drawn(seed):
    key_x, key_eps = jr.split(jr.key(seed))
    return jr.normal(key_x, (D,)), jr.normal(key_eps, (D,)), jnp.asarray(T)


@eqx.filter_jit
def terms(model, point, key, probe, n_probes):
    objective = DenoisingScoreMatching(PROCESS, 3, probe=probe, n_probes=n_probes)
    found = objective.terms(model, *point, key, 3)
    return jnp.stack([getattr(found, name) for name in NAMES])


@eqx.filter_jit
def over_keys(model, point, n_probes):
    keys = jr.split(jr.key(9), 4000)
    return jax.vmap(lambda key: terms(model, point, key, Rademacher(), n_probes))(keys)


@pytest.mark.parametrize("seed", range(4))
def test_j2_is_unbiased_and_the_others_are_upper_bounds(seed):
    """Proposition 3, for every network at every point; the excess is a variance, ∝ 1/k."""
    model, point = random_field(D, seed), drawn(seed)
    exact = np.asarray(terms(model, point, jr.key(0), Basis(), 1))
    one, four = (np.asarray(over_keys(model, point, k)) for k in (1, 4))
    for estimates in (one, four):
        assert_mean(estimates[:, 0], exact[0])
        assert np.all(z_scores(estimates[:, 1:], exact[1:]) > -4)
    excess = one[:, 1:].mean(0) - exact[1:]
    assert np.all(excess > 0)
    assert_mean(four[:, 1:] - exact[1:], excess / 4, within=5)


@eqx.filter_jit
def package_gradients(model, point, key):
    """The gradient of every term with respect to the model."""
    objective = DenoisingScoreMatching(PROCESS, 3, probe=Basis())

    def value(model, name):
        return getattr(objective.terms(model, *point, key, 3), name)

    return {name: jax.grad(value)(model, name) for name in ("first", *NAMES)}


@eqx.filter_jit
def naive_gradients(model, point, held):
    """The same with ℓ1 and ℓ2 as given arrays, or free to follow the model."""
    x_0, eps, t = point
    x_t, sigma = PROCESS.diffuse(x_0, eps, t), PROCESS.sigma(t)
    at = lambda model: naive.hats(lambda x: model(x, t), x_t, eps, sigma)  # noqa: E731
    fixed = at(model)

    def value(model, name):
        s = lambda x: model(x, t)  # noqa: E731
        l1, l2 = fixed if held else at(model)
        return {
            "first": lambda: naive.first(s, x_t, eps, sigma),
            "second": lambda: naive.second(s, x_t, l1, sigma),
            "second_trace": lambda: naive.second_trace(s, x_t, l1, sigma),
            "third": lambda: naive.third(s, x_t, l1, l2, sigma),
        }[name]()

    return {name: jax.grad(value)(model, name) for name in ("first", *NAMES)}


def largest(tree):
    return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
def test_lower_orders_are_held_constant():
    model, point = random_field(D, 5), drawn(5)
    found = package_gradients(model, point, jr.key(0))
    held, free = naive_gradients(model, point, True), naive_gradients(model, point, False)
    for name in found:
        difference = jax.tree.map(jnp.subtract, found[name], held[name])
        assert largest(difference) < 1e-10 * largest(held[name])
    difference = jax.tree.map(jnp.subtract, held, free)
    assert largest(difference["first"]) == 0
    assert all(largest(difference[name]) > 1e-2 * largest(free[name]) for name in NAMES)
