"""Layers for images of shape (h, w, c): channels last, as XLA's fast kernels need them."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode.network.convolution import convolve

Image = Float[Array, "_h _w _c"]  # unchecked names: sizes differ within a function


class Conv2d(eqx.nn.Conv2d):
    """`equinox.nn.Conv2d` with channels last."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        size: int,
        stride: int = 1,
        padding: int | tuple[tuple[int, int], tuple[int, int]] = 0,
        *,
        key: PRNGKeyArray,
    ):
        super().__init__(n_in, n_out, size, stride, padding, key=key)

    def __call__(self, x: Image, *, key: PRNGKeyArray | None = None) -> Image:  # noqa: ARG002
        assert not isinstance(self.padding, str)
        weight = self.weight.transpose(2, 3, 1, 0).astype(x.dtype)
        y = convolve(x[None], weight, self.stride, self.padding)[0]
        return y if self.bias is None else y + self.bias.ravel().astype(x.dtype)


class GroupNorm(eqx.Module):
    """`equinox.nn.GroupNorm` with channels last, computed at least in float32."""

    groups: int = eqx.field(static=True)
    eps: float = eqx.field(static=True)
    weight: Float[Array, " c"]
    bias: Float[Array, " c"]

    def __init__(self, groups: int, channels: int, eps: float = 1e-5):
        self.groups, self.eps = groups, eps
        self.weight, self.bias = jnp.ones(channels), jnp.zeros(channels)

    def __call__(self, x: Image) -> Image:
        values = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        centred = values - self._means(values)
        normal = centred * lax.rsqrt(self._means(centred**2) + self.eps)
        return (self.weight * normal + self.bias).astype(x.dtype)

    def _means(self, x: Image) -> Float[Array, " c"]:
        """The mean of every channel's group."""
        # Over pixels first: contiguous channels let the CPU add many at a time.
        channels = jnp.mean(x, (0, 1)).reshape(self.groups, -1)
        means = jnp.mean(channels, 1, keepdims=True)
        return jnp.broadcast_to(means, channels.shape).ravel()


def pixel_attention(query: Image, key: Image, value: Image) -> Image:
    """Attention of every pixel to all pixels: softmax(query · key / √channels) · value."""
    channels = value.shape[-1]
    q, k, v = (image.reshape(-1, channels) for image in (query, key, value))
    return (jax.nn.softmax(q @ k.T / math.sqrt(channels), axis=-1) @ v).reshape(value.shape)


def downsample(h: Image) -> Image:
    """Downsampling by 2: means of 2 × 2 pixels."""
    height, width, c = h.shape
    return h.reshape(height // 2, 2, width // 2, 2, c).mean((1, 3))


def upsample(h: Image) -> Image:
    """Upsampling by 2: every pixel becomes 2 × 2 pixels."""
    height, width, c = h.shape
    # Not `jnp.repeat`, which compiles to a slow gather.
    return jnp.broadcast_to(h[:, None, :, None], (height, 2, width, 2, c)).reshape(
        2 * height, 2 * width, c
    )
