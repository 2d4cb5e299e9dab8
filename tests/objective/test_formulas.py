"""The objectives are the paper's formulas: exact over the basis, estimated with one probe."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import naive
import numpy as np
import pytest
from catalogue import ORDERS, random_field

from scoreode.calculus import Basis, Rademacher
from scoreode.objective import DenoisingScoreMatching, Ramp
from scoreode.process import VE, VP, Straight, SubVP

pytestmark = pytest.mark.usefixtures("x64", "strict")

CASES = {
    "network-1": (1, VE(), random_field),
    "network-2": (2, SubVP(), random_field),
    "network-5": (5, VP(), random_field),
    "linear-3": (3, Straight(), lambda d: Linear.random(d)),
}
NAMES = ("first", "second", "second_trace", "third")


class Linear(eqx.Module):
    """s = M x + t c."""

    M: jax.Array
    c: jax.Array

    @classmethod
    def random(cls, d):
        rng = np.random.default_rng(0)
        return cls(jnp.asarray(rng.normal(size=(d, d))), jnp.asarray(rng.normal(size=d)))

    def __call__(self, x, t):
        return self.M @ x + t * self.c


def drawn(d, seed=0):
    key_x, key_eps = jr.split(jr.key(seed))
    return jr.normal(key_x, (d,)), jr.normal(key_eps, (d,)), jnp.asarray(0.35)


def values(terms):
    return np.array([getattr(terms, name) for name in NAMES])


@eqx.filter_jit
def transcribed(process, model, x_0, eps, t):
    x_t, sigma = process.diffuse(x_0, eps, t), process.sigma(t)
    s = lambda x: model(x, t)  # noqa: E731
    l1, l2 = naive.hats(s, x_t, eps, sigma)
    return jnp.stack(
        [
            naive.first(s, x_t, eps, sigma),
            naive.second(s, x_t, l1, sigma),
            naive.second_trace(s, x_t, l1, sigma),
            naive.third(s, x_t, l1, l2, sigma),
        ]
    )


@eqx.filter_jit
def transcribed_with_probe(process, model, x_0, eps, t, v):
    x_t, sigma = process.diffuse(x_0, eps, t), process.sigma(t)
    s = lambda x: model(x, t)  # noqa: E731
    l1, _ = naive.hats(s, x_t, eps, sigma)
    return jnp.stack(
        [
            naive.first(s, x_t, eps, sigma),
            naive.second_probed(s, x_t, l1, sigma, v),
            naive.second_trace_probed(s, x_t, l1, sigma, v),
            naive.third_probed(s, x_t, l1, sigma, v),
        ]
    )


@eqx.filter_jit
def terms_of(objective, model, x_0, eps, t, key, order=3):
    return objective.terms(model, x_0, eps, t, key, order)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_exact_formulas(case):
    d, process, make = CASES[case]
    model = make(d)
    objective = DenoisingScoreMatching(process, 3, probe=Basis())
    found = values(terms_of(objective, model, *drawn(d), jr.key(1)))
    np.testing.assert_allclose(found, transcribed(process, model, *drawn(d)), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_one_probe_formulas(case):
    d, process, make = CASES[case]
    model, key = make(d), jr.key(2)
    objective = DenoisingScoreMatching(process, 3, probe=Rademacher(), n_probes=1)
    found = values(terms_of(objective, model, *drawn(d), key))
    (v,) = objective.probe.draw(key, 1, d, jnp.dtype("float64")).vectors
    expected = transcribed_with_probe(process, model, *drawn(d), v)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("order", ORDERS)
def test_lower_orders_are_the_same_terms(order):
    process = VP()
    model = Linear.random(2)
    objective = DenoisingScoreMatching(process, order, n_probes=2)
    whole = values(terms_of(objective, model, *drawn(2), jr.key(3), 3))
    part = values(terms_of(objective, model, *drawn(2), jr.key(3), order))
    kept = {1: 1, 2: 3, 3: 4}[order]
    np.testing.assert_allclose(part[:kept], whole[:kept], rtol=1e-12)
    np.testing.assert_array_equal(part[kept:], 0)


class Reshaped(eqx.Module):
    """A score of flat examples, for examples of another shape."""

    score: eqx.Module

    def __call__(self, x, t):
        return self.score(x.ravel(), t).reshape(x.shape)


def test_images_are_vectors():
    process = VP()
    model = Linear.random(4)
    objective = DenoisingScoreMatching(process, 3, n_probes=2)
    x_0, eps, t = drawn(4)
    flat = terms_of(objective, model, x_0, eps, t, jr.key(4))
    image = (a.reshape(2, 2, 1) for a in (x_0, eps))
    shaped = terms_of(objective, Reshaped(model), *image, t, jr.key(4))
    np.testing.assert_allclose(values(shaped), values(flat), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("powers", [(1, 2, 2, 3), (0, 0, 0, 0)])
def test_total(powers):
    """J1/d^p1 + λ1 (J2/d^p2 + J2,tr/d^p2tr) + λ2 J3/d^p3, by what is reported."""
    d, process = 3, VP()
    model = random_field(d)
    objective = DenoisingScoreMatching(process, 3, Ramp(0.5), Ramp(0.1), powers=powers)
    x, progress = jr.normal(jr.key(5), (8, d)), jnp.asarray(1.0)
    loss, (reported, _) = eqx.filter_jit(objective)(model, x, jr.key(6), progress)
    J1, J2, J2_tr, J3 = (float(reported[name]) for name in NAMES)
    p1, p2, p2tr, p3 = powers
    expected = J1 / d**p1 + 0.5 * (J2 / d**p2 + J2_tr / d**p2tr) + 0.1 * J3 / d**p3
    np.testing.assert_allclose([loss, reported["loss"]], expected, rtol=1e-12)


@pytest.mark.parametrize("wrong", [{"order": 0}, {"order": 4}, {"n_probes": 0}, {"every": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        DenoisingScoreMatching(VP(), **wrong)
