"""The convolution against XLA's own, its derivatives of any order, and its batches."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from scoreode.network.convolution import convolve
from scoreode.network.layers import Conv2d, GroupNorm

pytestmark = pytest.mark.usefixtures("x64")

SIZES = {
    "same": {"stride": (1, 1), "padding": ((1, 1), (1, 1))},
    "strided": {"stride": (2, 3), "padding": ((1, 2), (0, 1))},
    "dilated": {"stride": (1, 1), "padding": ((2, 1), (3, 0)), "dilation": (2, 1)},
    "enlarged": {"stride": (1, 2), "padding": ((2, 2), (2, 1)), "x_dilation": (2, 2)},
    "cropped": {"stride": (1, 1), "padding": ((-1, 0), (0, -1))},
}


@pytest.fixture(params=SIZES)
def sizes(request):
    return SIZES[request.param]


def xla(x, weight, *, stride, padding, x_dilation=(1, 1), dilation=(1, 1)):
    """The same, with channels first."""
    y = lax.conv_general_dilated(
        x.transpose(0, 3, 1, 2), weight.transpose(3, 2, 0, 1), stride, padding, x_dilation, dilation
    )
    return y.transpose(0, 2, 3, 1)


def drawn(*shapes):
    return [jr.normal(jr.key(i), shape, jnp.float64) for i, shape in enumerate(shapes)]


@pytest.mark.slow
def test_values_are_xlas(sizes):
    x, weight = drawn((2, 7, 9, 3), (3, 2, 3, 4))
    np.testing.assert_allclose(convolve(x, weight, **sizes), xla(x, weight, **sizes), rtol=1e-12)


@pytest.mark.slow
def test_derivatives_forwards_and_backwards_are_differences(sizes):
    x, weight = drawn((1, 5, 6, 2), (3, 2, 2, 3))

    def smooth(x, weight):
        return jnp.tanh(convolve(jnp.tanh(x), jnp.asarray(weight), **sizes))

    check_grads(smooth, (x, weight), order=3, modes=("fwd", "rev"), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_gradient_of_order_three_is_xlas_inside_a_loop(sizes):
    """∇_w ‖∇_x vᵀ(∇F)v‖² by example, as the third objective takes it."""
    x, v, weight = drawn((4, 6, 6, 3), (4, 6, 6, 3), (3, 3, 3, 3))

    def found(convolve):
        def third(weight, x, v):
            field = lambda x: jnp.tanh(convolve(x[None], weight, **sizes))  # noqa: E731
            quadratic = lambda x: jnp.sum(jax.jvp(field, (x,), (v,))[1] ** 2)  # noqa: E731
            return jnp.sum(jax.grad(quadratic)(x) ** 2)

        def mean(weight):
            return jnp.mean(jax.vmap(third, (None, 0, 0))(weight, x, v))

        step = lambda _, weight: weight - 1e-3 * jax.grad(mean)(weight)  # noqa: E731
        return jax.jit(lambda weight: lax.fori_loop(0, 2, step, weight))(weight)

    np.testing.assert_allclose(found(convolve), found(xla), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_gradients_by_example(sizes):
    x, weight = drawn((3, 1, 6, 6, 2), (3, 3, 2, 2))

    def gradients(convolve):
        loss = lambda weight, x: jnp.sum(convolve(x, weight, **sizes) ** 2)  # noqa: E731
        return jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(weight, x)

    np.testing.assert_allclose(gradients(convolve), gradients(xla), rtol=1e-9, atol=1e-12)


DTYPES = pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])


def assert_equinoxs(ours, theirs, dtype):
    """The same values as a layer with channels first, to some digits of this precision."""
    x = 2 + 3 * jr.normal(jr.key(1), (8, 6, 12), dtype)
    found = eqx.filter_jit(ours)(x)
    assert found.dtype == dtype
    expected = eqx.filter_jit(theirs)(x.astype(jnp.float64).transpose(2, 0, 1))
    expected = expected.transpose(1, 2, 0)
    tolerance = 32 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(found.astype(jnp.float64), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@DTYPES
def test_the_layer_is_equinoxs(dtype):
    sizes = {"stride": 2, "padding": 1, "key": jr.key(0)}
    ours, theirs = (kind(12, 4, 3, **sizes) for kind in (Conv2d, eqx.nn.Conv2d))
    bias = jr.normal(jr.key(2), (4, 1, 1))
    ours, theirs = (eqx.tree_at(lambda c: c.bias, layer, bias) for layer in (ours, theirs))
    assert_equinoxs(ours, theirs, dtype)


@pytest.mark.slow
@DTYPES
def test_the_norm_is_equinoxs(dtype):
    ours, theirs = GroupNorm(3, 12, eps=1e-4), eqx.nn.GroupNorm(3, 12, eps=1e-4)
    weight, bias = jr.normal(jr.key(2), (2, 12))
    where = lambda norm: (norm.weight, norm.bias)  # noqa: E731
    ours, theirs = (eqx.tree_at(where, norm, (weight, bias)) for norm in (ours, theirs))
    assert_equinoxs(ours, theirs, dtype)
