"""Recomputation: the same gradients of order 3, in a part of the memory."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from scoreode.calculus import Rademacher, derivatives
from scoreode.network.ncsnpp import BigGANBlock
from scoreode.network.recompute import recompute

SHAPE, LEVEL, N = (8, 8, 8), 8, 2


def blocks_of(n):
    """Blocks whose last layers are not as good as zero."""
    made = [BigGANBlock(8, 8, LEVEL, jr.key(i)) for i in range(n)]
    return [eqx.tree_at(lambda b: b.last.weight, b, 0.1 * b.first.weight) for b in made]


X = jr.normal(jr.key(0), (N, 512))


def compile_gradient(order, blocks, economise):
    """The gradient of the squares of all derivatives up to this order, compiled."""

    def network(blocks, x):
        h = x.reshape(SHAPE)
        for block in blocks:
            h = economise(block)(h, jnp.ones(LEVEL))
        return h.ravel()

    def example(blocks, x, key):
        probes = Rademacher().draw(key, 1, x.size, x.dtype)
        found = derivatives(lambda x: network(blocks, x), x, probes, order)
        high = [a for a in (found.jvp, found.grad_quadratic) if a is not None]
        return sum(jnp.mean(a**2) for a in (found.s, *high))

    def loss(blocks, X):
        return jnp.mean(jax.vmap(example, (None, 0, 0))(blocks, X, jr.split(jr.key(1), N)))

    return jax.jit(jax.grad(loss)).lower(blocks, X).compile()


def inputs_only(block):
    return recompute(block, keep_convolutions=False)


@pytest.mark.slow
def test_order_three_takes_a_part_of_its_memory():
    """Less than half of it; and less again without the results of convolutions, for more time."""
    blocks, ways = blocks_of(4), (lambda block: block, recompute, inputs_only)
    plain, *light = (compile_gradient(3, blocks, economise) for economise in ways)
    compiled = plain, *light
    memory = [c.memory_analysis().temp_size_in_bytes for c in compiled]
    operations = [c.cost_analysis()["flops"] for c in compiled]
    assert memory[2] < 0.9 * memory[1] < 0.45 * memory[0]
    assert operations[1] < 1.3 * operations[0]
    assert operations[2] < 1.7 * operations[0]
    for found in light:
        for one, two in zip(*(jax.tree.leaves(c(blocks, X)) for c in (plain, found)), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4 * np.abs(two).max())


def test_weights_that_are_not_finite_are_seen():
    (block,) = blocks_of(1)
    broken = eqx.tree_at(lambda b: b.norms[0].weight, block, jnp.full(8, jnp.nan))
    for layer in (block, broken):
        h = recompute(layer)(jnp.ones(SHAPE), jnp.ones(LEVEL))
        assert bool(jnp.all(jnp.isfinite(h))) == (layer is block)
