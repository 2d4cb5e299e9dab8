"""NCSN++ and DDPM++, with published weights, against NumPy and SciPy."""

import math
from dataclasses import replace
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from differences import assert_derivatives_are_differences
from published import fourier, weights

from scoreode.network import DDPMpp, NCSNpp
from scoreode.network.ncsnpp import BigGANBlock
from scoreode.network.published import from_flax, spec_of
from scoreode.objective import DenoisingScoreMatching
from scoreode.process import VE, VP
from scoreode.score import ScoreModel, Velocity

pytestmark = pytest.mark.usefixtures("x64")

SHAPE, D = (8, 12, 3), 8 * 12 * 3
SMALL = {"image_shape": SHAPE, "width": 8, "multipliers": (1, 2), "depth": 1, "attention": (4,)}
TINY = NCSNpp((4, 4, 3), width=8, multipliers=(1,), depth=1, attention=())
HALVED = replace(TINY, multipliers=(1, 1))
SPECS = {"ncsnpp": NCSNpp(**SMALL, unit=2.0, raw=True), "ddpmpp": DDPMpp(**SMALL)}


@pytest.fixture(scope="module", params=SPECS)
def published(request):
    """The specification, the published model, and ours with its weights."""
    spec = SPECS[request.param]
    params, theirs = weights(request.param)
    with jax.enable_x64(True):
        return spec, theirs, params, from_flax(spec, params)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_training_starts_at_zero():
    net = TINY.build((48,), jr.key(0))
    F = eqx.filter_jit(net)(jr.normal(jr.key(1), (48,)), jnp.asarray(0.3))
    assert jnp.abs(F).max() < 1e-3


@pytest.mark.slow
def test_derivatives_of_order_three_are_differences(published):
    *_, net = published
    assert_derivatives_are_differences(lambda x: net(x, jnp.asarray(0.4)), D, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["recompute", "half"])
def test_ways_to_compute_agree(how):
    """Gradients of a directional derivative, blocks recomputed; and in bfloat16, to its digits."""
    net = large(HALVED)
    alike = eqx.filter_eval_shape(replace(HALVED, **{how: True}).build, (48,), jr.key(0))
    other = jax.tree.unflatten(jax.tree.structure(alike), jax.tree.leaves(net))
    one, two = (jax.tree.leaves(gradient(net)) for net in (net, other))
    one, two = (np.concatenate([np.ravel(leaf) for leaf in leaves]) for leaves in (one, two))
    tolerance = 1e-4 if how == "recompute" else 0.1
    assert np.linalg.norm(one - two) < tolerance * np.linalg.norm(one)


@eqx.filter_jit
@eqx.filter_grad
def gradient(net):
    """That of the mean squares of F and of a directional derivative."""
    x, v = jr.normal(jr.key(3), (2, 48), jnp.float32)
    level = jnp.asarray(0.4, jnp.float32)
    F, slope = jax.jvp(lambda x: net(x, level), (x,), (v,))
    return jnp.mean(F**2) + jnp.mean(slope**2)


@cache
def large(spec):
    """A network whose last layers are not as good as zero."""
    net = spec.build((48,), jr.key(0))
    weights = [0.1 * jr.normal(jr.key(i), w.shape) for i, w in enumerate(last_layers(net))]
    return eqx.tree_at(last_layers, net, weights)


def last_layers(net):
    """Weights that are as good as zero in a fresh network."""
    sides = [block for level in (*net.down, *net.up) for block in level]
    blocks = [*sides, net.middle[0], net.middle[2]]
    return [net.readout.weight, *(block.last.weight for block in blocks)]


@pytest.mark.slow
def test_a_block_with_dropout_is_right_on_average():
    """Its last layer is linear: means over masks are the block without, within standard errors."""
    rate, n = 0.3, 4000
    block = BigGANBlock(8, 8, 4, jr.key(0), dropout=rate)
    block = eqx.tree_at(
        lambda b: b.last.weight, block, jr.normal(jr.key(1), block.last.weight.shape)
    )
    x, level = jr.normal(jr.key(2), (4, 4, 8)), jr.normal(jr.key(3), (4,))
    whole = eqx.filter_jit(block)(x, level).ravel()
    drawn = jax.jit(jax.vmap(lambda key: block(x, level, key).ravel()))(jr.split(jr.key(4), n))
    z = (drawn.mean(0) - whole) / (drawn.std(0) / math.sqrt(n))
    assert jnp.abs(z).max() < 5
    assert drawn.std(0).min() > 0.1


@pytest.mark.slow
def test_a_network_with_dropout_is_one_smooth_function_a_key():
    net = large(replace(TINY, dropout=0.5))
    x = jr.normal(jr.key(3), (48,))
    of = eqx.filter_jit(lambda net: net(x, jnp.asarray(0.4)))
    one, same, other = (of(net.with_dropout(jr.key(i))) for i in (7, 7, 8))
    np.testing.assert_array_equal(one, same)
    assert jnp.linalg.norm(one - other) > 0.1 * jnp.linalg.norm(one)
    np.testing.assert_array_equal(of(net), of(large(TINY)))
    assert large(TINY).with_dropout(jr.key(7)).key is None
    block, level = BigGANBlock(8, 8, 4, jr.key(0), dropout=0.5), jr.normal(jr.key(3), (4,))
    block = eqx.tree_at(lambda b: b.last.weight, block, jr.normal(jr.key(1), (8, 8, 3, 3)))
    flat = lambda x: block(x.reshape(2, 2, 8), level, jr.key(4)).ravel()  # noqa: E731
    assert_derivatives_are_differences(flat, 32, seed=2)


@pytest.mark.slow
def test_training_drops_and_evaluation_does_not():
    net, dropping = large(TINY), large(replace(TINY, dropout=0.5))
    x, t = jr.normal(jr.key(3), (4, 48)), jnp.asarray(0.3)
    objective = eqx.filter_jit(DenoisingScoreMatching(VE()))
    scores = [ScoreModel(VE(), Velocity(), network) for network in (net, dropping)]
    losses = [objective(score, x, jr.key(0), t)[0] for score in scores]
    assert losses[1] != pytest.approx(float(losses[0]), rel=0.01)
    np.testing.assert_array_equal(*(eqx.filter_jit(score)(x[0], t) for score in scores))
