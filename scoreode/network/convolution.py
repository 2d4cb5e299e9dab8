"""Convolutions that are as fast inside compiled loops as outside.

XLA's fast CPU kernels need channels last. Outside loops the compiler reorders other layouts. Inside
a loop it does not (github.com/jax-ml/jax/issues/12868), and the convolutions of a gradient never
have channels last: they run up to twenty times slower. The primitive defined here is its own
derivative, so gradients of any order have channels last.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

Pair = tuple[int, ...]
Pads = tuple[Pair, ...]


def convolve(
    x: Float[Array, "n h w c"],
    weight: Float[Array, "i j c d"],
    stride: Pair,
    padding: Pads,
    x_dilation: Pair = (1, 1),
    dilation: Pair = (1, 1),
) -> Float[Array, "n _h _w d"]:
    """y[n, p, q] = Σ_ij x[n, p · stride + i · dilation, …] weight[i, j], for padded, dilated x."""
    sizes = {"stride": stride, "padding": padding, "x_dilation": x_dilation, "dilation": dilation}
    return CONVOLUTION.bind(x, weight, **sizes)


def _compute(x: Array, weight: Array, *, stride, padding, x_dilation, dilation) -> Array:
    channels_last = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, weight, stride, padding, x_dilation, dilation, channels_last)


def _shape(x: Any, weight: Any, **sizes: Any) -> Any:
    y = jax.eval_shape(partial(_compute, **sizes), x, weight)
    return x.update(shape=y.shape, dtype=y.dtype, weak_type=False)


def _extents(x: Any, weight: Any, y: Any, *, stride, x_dilation, dilation) -> list[list[int]]:
    """Dilated sizes of x, of the weights and of y, for both axes."""
    dilated = lambda n, step: 0 if n == 0 else 1 + (n - 1) * step  # noqa: E731
    return [
        [
            dilated(x.shape[1 + axis], x_dilation[axis]),
            dilated(weight.shape[axis], dilation[axis]),
            dilated(y.shape[1 + axis], stride[axis]),
        ]
        for axis in (0, 1)
    ]


def _transpose_to_x(y: Array, x: Any, weight: Array, *, padding, **sizes: Any) -> Array:
    """The cotangent of x: y's cotangent convolve with the weights rotated by 180°."""
    extents = _extents(x.aval, weight, y, **sizes)
    pads = []
    for (n_x, n_weight, n_y), (before, _) in zip(extents, padding, strict=True):
        low = n_weight - before - 1
        pads.append((low, n_x + n_weight - 1 - n_y - low))
    rotated = weight[::-1, ::-1].swapaxes(2, 3)
    return convolve(
        y, rotated, sizes["x_dilation"], tuple(pads), sizes["stride"], sizes["dilation"]
    )


def _transpose_to_weight(y: Array, x: Array, weight: Any, *, padding, **sizes: Any) -> Array:
    """The cotangent of the weights: x correlated with y's cotangent, examples as channels."""
    extents = _extents(x, weight.aval, y, **sizes)
    pads = []
    for (n_x, n_weight, n_y), (before, _) in zip(extents, padding, strict=True):
        pads.append((before, n_y - n_x + n_weight - before - 1))
    return convolve(
        x.transpose(3, 1, 2, 0),
        y.transpose(1, 2, 0, 3),
        sizes["dilation"],
        tuple(pads),
        sizes["x_dilation"],
        sizes["stride"],
    ).transpose(1, 2, 0, 3)


def _batch(rows: tuple[Array, Array], axes: tuple[Any, Any], **sizes: Any) -> tuple[Array, int]:
    (x, weight), (x_axis, weight_axis) = rows, axes
    if weight_axis is None:
        x = jnp.moveaxis(x, x_axis, 0)
        y = convolve(x.reshape(-1, *x.shape[2:]), weight, **sizes)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0
    # Weights differ between examples only in per-example gradients.
    return jax.vmap(partial(_compute, **sizes), axes)(x, weight), 0


CONVOLUTION = Primitive("convolution_with_channels_last")
CONVOLUTION.def_impl(_compute)
CONVOLUTION.def_abstract_eval(_shape)
mlir.register_lowering(CONVOLUTION, mlir.lower_fun(_compute, multiple_results=False))
ad.defbilinear(CONVOLUTION, _transpose_to_x, _transpose_to_weight)
batching.primitive_batchers[CONVOLUTION] = _batch
