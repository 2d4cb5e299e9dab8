"""The U-Net against SciPy and NumPy, module by module, and its derivatives against differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from differences import assert_derivatives_are_differences
from scipy.signal import correlate2d
from scipy.special import expit, softmax

from scoreode.network import UNet
from scoreode.network.mlp import LEVELS

pytestmark = pytest.mark.usefixtures("x64")

SHAPE = (8, 12, 2)
D = 8 * 12 * 2


def silu(x):
    return x * expit(x)


def conv(layer, x):
    """Correlation with zeros around, one pair of channels after another."""
    weight, bias = np.asarray(layer.weight), np.asarray(layer.bias)
    mode = "same" if weight.shape[-1] > 1 else "valid"
    return bias + np.stack(
        [sum(correlate2d(c, w, mode) for c, w in zip(x, out, strict=True)) for out in weight]
    )


def norm(layer, x):
    groups = x.reshape(layer.groups, -1)
    groups = groups - groups.mean(1, keepdims=True)
    scaled = groups / np.sqrt(groups.var(1, keepdims=True) + layer.eps)
    weight, bias = (np.asarray(a)[:, None, None] for a in (layer.weight, layer.bias))
    return weight * scaled.reshape(x.shape) + bias


def linear(layer, x):
    return np.asarray(layer.weight) @ x + np.asarray(layer.bias)


def block(layer, x, level):
    before, between = layer.norms
    gamma, beta = linear(layer.film, level).reshape(2, -1, 1, 1)
    h = (1 + gamma) * norm(between, conv(layer.first, silu(norm(before, x)))) + beta
    skip = x if layer.skip is None else conv(layer.skip, x)
    return (skip + conv(layer.last, silu(h))) / np.sqrt(2)


def attention(layer, x):
    c = len(x)
    q, k, v = conv(layer.project, norm(layer.norm, x)).reshape(3, c, -1)
    mixed = np.stack([v @ softmax(k.T @ one / np.sqrt(c)) for one in q.T], 1)
    return (x + conv(layer.out, mixed.reshape(x.shape))) / np.sqrt(2)


def halved(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def forward(net, x, log_snr):
    """The whole, for two resolutions with one block each."""
    first, last = net.embed
    level = silu(
        linear(last, silu(linear(first, np.exp(-0.5 * (log_snr - np.asarray(LEVELS)) ** 2))))
    )
    a = conv(net.first, x.reshape(SHAPE).transpose(2, 0, 1))
    b = block(net.down[0][0], a, level)
    c = block(net.down[1][0], halved(b), level)
    enter, attend, leave = net.middle
    h = block(leave, attention(attend, block(enter, c, level)), level)
    h = block(net.up[0][0], np.concatenate([h, c]), level)
    h = np.kron(h, np.ones((2, 2)))
    for layer, skip in zip(net.up[1], (b, a), strict=True):
        h = block(layer, np.concatenate([h, skip]), level)
    return conv(net.readout, silu(norm(net.norm, h))).transpose(1, 2, 0).ravel()


def large(spec):
    """A network whose output is of order one, in float64."""
    net = spec.build((D,), jr.key(0))
    return eqx.tree_at(lambda net: net.readout.weight, net, 100 * net.readout.weight)


@pytest.fixture(scope="module")
def network():
    """Of two resolutions."""
    with jax.enable_x64(True):
        return large(UNet(SHAPE, width=8, multipliers=(1, 2)))


@pytest.mark.slow
def test_forward_is_the_independent_computation(network):
    x = np.random.default_rng(0).normal(size=D)
    found = eqx.filter_jit(network)(jnp.asarray(x), jnp.asarray(1.3))
    np.testing.assert_allclose(found, forward(network, x, 1.3), rtol=1e-9, atol=1e-9)
    assert np.std(found) > 0.1


@pytest.mark.slow
def test_conditions_move_what_the_noise_level_moves():
    """The first layer takes both: conditions are a shift of its biases."""
    c, x = jr.normal(jr.key(1), (3,)), jr.normal(jr.key(2), (D,))
    spec = UNet(SHAPE, width=8, multipliers=(1,))
    given = spec.build((D,), jr.key(0), n_conditions=3)
    given = eqx.tree_at(lambda net: net.readout.weight, given, 100 * given.readout.weight)
    weight, bias = given.embed[0].weight, given.embed[0].bias
    first = lambda net: (net.embed[0].weight, net.embed[0].bias)  # noqa: E731
    shifted = eqx.tree_at(first, given, (weight[:, :-3], bias + weight[:, -3:] @ c))
    call, level = eqx.filter_jit(lambda net, *args: net(x, *args)), jnp.asarray(1.3)
    np.testing.assert_allclose(call(given, level, c), call(shifted, level), rtol=1e-4, atol=1e-5)
    assert np.abs(call(given, level, c) - call(given, level, -c)).max() > 1e-3


@pytest.mark.slow
def test_derivatives_of_order_three_are_differences():
    network = large(UNet(SHAPE, width=8, multipliers=(1,)))
    assert_derivatives_are_differences(lambda x: network(x, jnp.asarray(0.4)), D, seed=1)


@pytest.mark.slow
def test_training_starts_near_zero_and_every_weight_has_a_gradient(network):
    net = UNet(SHAPE, width=8, multipliers=(1, 2)).build((D,), jr.key(0))
    x = jr.normal(jr.key(1), (D,))
    assert jnp.std(eqx.filter_jit(net)(x, jnp.asarray(0.0))) < 0.1
    gradient = eqx.filter_grad(lambda net: jnp.sum(net(x, jnp.asarray(0.0)) ** 2))
    for leaf in jax.tree.leaves(eqx.filter_jit(gradient)(network)):
        assert np.any(np.asarray(leaf) != 0)


@pytest.mark.parametrize(
    ("spec", "shape", "match"),
    [
        (UNet((7, 7, 1)), (49,), "cannot be halved 2 times"),
        (UNet((8, 8, 1)), (63,), r"not images \(8, 8, 1\)"),
    ],
)
def test_images_that_do_not_fit(spec, shape, match):
    with pytest.raises(ValueError, match=match):
        spec.build(shape, jr.key(0))
