"""NCSN++ and DDPM++, with published weights, against NumPy and SciPy."""

import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from differences import assert_derivatives_are_differences
from published import fourier, weights

from scoreode.network import DDPMpp, NCSNpp
from scoreode.network.published import from_flax, spec_of
from scoreode.process import VE, VP

pytestmark = pytest.mark.usefixtures("x64")

SHAPE, D = (8, 12, 3), 8 * 12 * 3
SMALL = {"image_shape": SHAPE, "width": 8, "multipliers": (1, 2), "depth": 1, "attention": (4,)}
TINY = NCSNpp((4, 4, 3), width=8, multipliers=(1, 1), depth=1, attention=())
SPECS = {"ncsnpp": NCSNpp(**SMALL, unit=2.0, raw=True), "ddpmpp": DDPMpp(**SMALL)}


@pytest.fixture(scope="module", params=SPECS)
def published(request):
    """The specification, the published model, and ours with its weights."""
    spec = SPECS[request.param]
    params, theirs = weights(request.param)
    with jax.enable_x64(True):
        return spec, theirs, params, from_flax(spec, params)


def test_forward_is_the_published_computation(published):
    spec, theirs, params, net = published
    x = np.random.default_rng(1).uniform(-1, 1, SHAPE)
    if isinstance(spec, NCSNpp):
        # Shown pixels 2 x − 1 in [−1, 1], and told σ for pixels x in [0, 1].
        sigma, scale, sign = 0.7, np.hypot(1, 0.7), -1
        t, log_snr = np.log(sigma / 0.01) / np.log(1e4), VE(0.01, 100.0).log_snr
        level = fourier(params, sigma / 2)
    else:
        t, scale, sign, log_snr = 0.37, 1.0, 1, VP().log_snr
        phase = 999 * t * 10_000 ** (-np.arange(4) / 3)
        level = np.concatenate([np.sin(phase), np.cos(phase)])
    expected = sign * theirs(x, level).ravel()
    found = eqx.filter_jit(net)(jnp.asarray(x.ravel() / scale), log_snr(jnp.asarray(t)))
    assert np.std(expected) > 0.1
    # The weights are kept in float32.
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.std(expected))


def test_the_specification_is_read_off_the_weights(published):
    spec, _, params, _ = published
    assert spec_of(params, SHAPE, (1, 2), (4,)) == spec


def test_other_weights_are_refused(published):
    spec, _, params, _ = published
    with pytest.raises(ValueError, match="Dense_1/kernel is missing"):
        from_flax(spec, {name: part for name, part in params.items() if name != "Dense_1"})
    with pytest.raises(ValueError, match="Conv_9/kernel is left over"):
        from_flax(spec, params | {"Conv_9": {"kernel": np.zeros(3)}})
    wrong = params["Conv_0"] | {"kernel": np.zeros((3, 3, 3, 9))}
    with pytest.raises(ValueError, match=r"Conv_0/kernel has shape \(9, 3, 3, 3\)"):
        from_flax(spec, params | {"Conv_0": wrong})


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (NCSNpp((32, 32, 3)), 62_758_915),
        (NCSNpp((32, 32, 3), depth=8), 107_587_075),
        (DDPMpp((32, 32, 3)), 61_804_419),
    ],
)
def test_parameters_are_as_many_as_published(spec, count):
    """Counted by initialising the published code's own models at these settings."""
    net = eqx.filter_eval_shape(lambda key: spec.build((3072,), key), jr.key(0))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(net)) == count


def test_training_starts_at_zero():
    net = TINY.build((48,), jr.key(0))
    F = eqx.filter_jit(net)(jr.normal(jr.key(1), (48,)), jnp.asarray(0.3))
    assert jnp.abs(F).max() < 1e-3


def test_derivatives_of_order_three_are_differences(published):
    *_, net = published
    assert_derivatives_are_differences(lambda x: net(x, jnp.asarray(0.4)), D, seed=2)


@pytest.mark.parametrize("how", ["recompute", "half"])
def test_ways_to_compute_agree(how):
    """Gradients of a directional derivative, blocks recomputed; and in bfloat16, to its digits."""
    x, v = jr.normal(jr.key(3), (2, 48), jnp.float32)
    level, net = jnp.asarray(0.4, jnp.float32), TINY.build((48,), jr.key(0))
    large = [jr.normal(jr.key(i), leaf.shape) for i, leaf in enumerate(last_layers(net))]
    net = eqx.tree_at(last_layers, net, [0.1 * weight for weight in large])
    alike = replace(TINY, **{how: True}).build((48,), jr.key(0))
    other = jax.tree.unflatten(jax.tree.structure(alike), jax.tree.leaves(net))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(net):
        F, slope = jax.jvp(lambda x: net(x, level), (x,), (v,))
        return jnp.mean(F**2) + jnp.mean(slope**2)

    one, two = (jax.tree.leaves(gradient(net)) for net in (net, other))
    one, two = (np.concatenate([np.ravel(leaf) for leaf in leaves]) for leaves in (one, two))
    tolerance = 1e-4 if how == "recompute" else 0.1
    assert np.linalg.norm(one - two) < tolerance * np.linalg.norm(one)


def last_layers(net):
    """Weights that are as good as zero in a fresh network."""
    blocks = [*net.down[0], *net.down[1], net.middle[0], net.middle[2], *net.up[0], *net.up[1]]
    return [net.readout.weight, *(block.last.weight for block in blocks)]
