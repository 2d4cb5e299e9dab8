"""What every network's specification promises, for all of the catalogue."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import NETWORKS

from scoreode.model.config import COMPONENTS, from_json, to_json
from scoreode.network import Specification

D = 16

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture(params=NETWORKS)
def spec(request):
    return NETWORKS[request.param]


def test_it_is_written_to_json_and_read_back(spec):
    assert isinstance(spec, Specification)
    assert from_json(to_json(spec)) == spec


def test_every_specification_of_the_package_is_listed():
    specifications = {cls for cls in COMPONENTS.values() if hasattr(cls, "hidden_values")}
    assert specifications == {type(spec) for spec in NETWORKS.values()}


@pytest.mark.slow
def test_its_derivatives_are_those_of_differences(spec):
    """Along a line, by Taylor series in one sweep; orders 2 and 3 take more of the same layers."""
    network = spec.build((D,), jr.key(0))
    x, v = jr.normal(jr.key(1), (2, D))
    along = jax.jit(lambda h: 100 * network(x + h * v, jnp.asarray(0.5)))  # readouts begin small
    assert along(0.0).shape == (D,)
    if spec.for_images:
        return  # their convolutions and norms have tests of their own, and take long to compile
    h, first = 1e-4, jax.jit(lambda h: jax.jvp(along, (h,), (1.0,))[1])
    second = jax.jit(lambda h: jax.jvp(first, (h,), (1.0,))[1])
    for value, derivative in ((along, first), (first, second)):
        difference = (value(h) - value(-h)) / (2 * h)
        np.testing.assert_allclose(derivative(0.0), difference, rtol=1e-5, atol=1e-6)


def test_equal_keys_build_equal_networks(spec):
    one, same, other = (arrays(spec.build((D,), jr.key(seed))) for seed in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
def test_conditions_are_taken_or_refused(spec):
    if not spec.conditional:
        with pytest.raises(ValueError, match="takes no conditions"):
            spec.build((D,), jr.key(0), 2)
        return
    network = spec.build((D,), jr.key(0), 2)
    F = network(jnp.ones(D), jnp.asarray(0.0), jnp.array([1.0, -1.0]))
    assert F.shape == (D,)


def test_its_size_is_known_before_it_is_built(spec):
    assert spec.hidden_values(D) > 0
    assert spec.width > 0
    assert spec.depth > 0
    assert spec.for_images == (spec.__class__.__name__ != "MLP")
    assert math.isfinite(spec.hidden_values(3072))


def arrays(network):
    return [a for a in jax.tree.leaves(network) if isinstance(a, jax.Array)]
