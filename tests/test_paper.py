"""The paper's settings: what the constants for its mixture mean, and how much the priors differ."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import random_field

from scoreode.data import sources
from scoreode.errors import InputError
from scoreode.process import VE
from scoreode.reproduce import paper
from scoreode.reproduce.table1 import PRESETS

ONE = jnp.asarray(1.0)  # of training progress


def deviation():
    """That of the paper's mixture."""
    weights, means, covariances = sources.TOYS["mixture"].components()
    mean = weights @ means
    return float(np.sqrt(weights @ (covariances[:, 0] + means**2) - mean**2)[0])


def authors_loss(s, s_1, s_2, sigma, eps, order):
    """Their objective in one dimension, of s and its derivatives: J2 once, λ1 = 0.5, λ2 = 0.1."""
    l1, l2 = sigma * s + eps, sigma**2 * s_1 + 1
    first = l1**2
    second = (l2 - l1**2) ** 2 if order > 1 else 0.0
    third = (sigma**3 * s_2 + l1**3 - l2 * l1 - 2 * l2 * l1) ** 2 if order > 2 else 0.0
    return jnp.mean(first + 0.5 * second + 0.1 * third)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_authors_constants_give_their_objective(order):
    """In the units of the data, where σ is 0.01 at t = 0 and 50 at t = 1."""
    objective = paper.mog(order, constants="authors").objective
    model, scale, n = random_field(1), deviation(), 64
    z = jr.normal(jr.key(0), (n, 1))
    found, _ = eqx.filter_jit(objective)(model, z, jr.key(1), ONE)

    # The same draws of t and ε; the basis is the only probe, v = 1.
    key_t, key_eps, _ = jr.split(jr.key(1), 3)
    t, _ = objective.weighting.sample(objective.process, key_t, n)
    eps = jr.normal(key_eps, (n, 1))[:, 0]
    sigma = 0.01 * 5000**t
    x = scale * z[:, 0] + sigma * eps
    s = lambda x, t: model(x[None] / scale, t)[0] / scale  # noqa: E731
    fields = (s, jax.grad(s), jax.grad(jax.grad(s)))
    expected = authors_loss(*(jax.vmap(f)(x, t) for f in fields), sigma, eps, order)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_the_papers_formula_counts_j2_twice_in_one_dimension():
    z = jr.normal(jr.key(0), (16, 1))
    loss, (terms, _) = eqx.filter_jit(paper.mog(3).objective)(random_field(1), z, jr.key(1), ONE)
    np.testing.assert_allclose(terms["second_trace"], terms["second"], rtol=1e-12)
    expected = terms["first"] + 2 * 0.5 * terms["second"] + 0.1 * terms["third"]
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    assert paper.mog(3).objective.process == VE(0.01, 50.0)


def test_constants_have_names():
    with pytest.raises(InputError, match="unknown constants 'author': did you mean 'authors'"):
        paper.mog(1, constants="author")
    for name in paper.CONSTANTS:
        assert paper.mog(1, constants=name).objective.order == 1


@pytest.mark.usefixtures("x64")
def test_the_authors_prior_costs_as_much_as_is_said():
    """E −log N(x; 0, σ²) less that of N(0, 1 + σ²), for x of variance 1 + σ²: 1/(4 σ⁴)."""
    for preset in PRESETS.values():
        process = preset.process
        ours, theirs = float(process.prior_scale()) ** 2, process.sigma_max**2
        np.testing.assert_allclose(ours, 1 + theirs, rtol=1e-9)
        costs = 0.5 * (np.log(theirs / ours) + ours / theirs - 1)
        np.testing.assert_allclose(costs, 1 / (4 * theirs**2), rtol=0.02)
