"""A U-Net for small images, conditioned on the log-SNR (Ronneberger et al. 2015; Ho et al. 2020).

Residual blocks at every resolution, with skip connections from the way down to the way up;
attention at the coarsest resolution; group normalisation; sums scaled by 1/√2. The log-SNR and any
conditions scale and shift the hidden channels. The last layer starts near zero, so training starts
at F = 0. All layers are smooth because the objective of order 3 differentiates them four times.

Examples are flattened images.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar
from scoreode.network.layers import Conv2d, GroupNorm, Image, downsample, pixel_attention, upsample
from scoreode.network.mlp import LEVELS, linear, with_level, with_weight


def _conv(n_in: int, n_out: int, size: int, gain: float, key: PRNGKeyArray) -> Conv2d:
    """Weights of standard deviation gain / √fan-in, biases at zero."""
    conv = eqx.filter_eval_shape(Conv2d, n_in, n_out, size, padding=size // 2, key=key)
    return with_weight(conv, gain / math.sqrt(n_in * size**2) * jr.normal(key, conv.weight.shape))


def _norm(channels: int) -> GroupNorm:
    """Groups of at least four channels, at most 32 groups."""
    return GroupNorm(math.gcd(min(32, max(1, channels // 4)), channels), channels)


class ImageBlock(eqx.Module):
    """(skip(x) + conv(φ((1 + γ) ⊙ norm(conv(φ(norm(x)))) + β))) / √2."""

    norms: tuple[GroupNorm, GroupNorm]
    first: Conv2d
    last: Conv2d
    film: eqx.nn.Linear
    skip: Conv2d | None

    def __init__(self, n_in: int, n_out: int, n_level: int, key: PRNGKeyArray):
        keys = jr.split(key, 4)
        self.norms = _norm(n_in), _norm(n_out)
        self.first = _conv(n_in, n_out, 3, 1.0, keys[0])
        self.last = _conv(n_out, n_out, 3, 0.3, keys[1])
        self.film = linear(n_level, 2 * n_out, 0.1, keys[2])
        self.skip = None if n_in == n_out else _conv(n_in, n_out, 1, 1.0, keys[3])

    def __call__(self, x: Image, level: Float[Array, " level"]) -> Image:
        before, between = self.norms
        gamma, beta = self.film(level).reshape(2, -1)
        h = (1 + gamma) * between(self.first(jax.nn.silu(before(x)))) + beta
        skip = x if self.skip is None else self.skip(x)
        return (skip + self.last(jax.nn.silu(h))) / math.sqrt(2)


class Attention(eqx.Module):
    """(x + attention of every pixel to all, with one head) / √2."""

    norm: GroupNorm
    project: Conv2d
    out: Conv2d

    def __init__(self, channels: int, key: PRNGKeyArray):
        key_project, key_out = jr.split(key)
        self.norm = _norm(channels)
        self.project = _conv(channels, 3 * channels, 1, 1.0, key_project)
        self.out = _conv(channels, channels, 1, 0.3, key_out)

    def __call__(self, x: Image) -> Image:
        mixed = pixel_attention(*jnp.split(self.project(self.norm(x)), 3, axis=-1))
        return (x + self.out(mixed)) / math.sqrt(2)


class ImageUNet(eqx.Module):
    """F(x, λ) for flattened images (h, w, c); the module's docstring describes the layers."""

    embed: tuple[eqx.nn.Linear, eqx.nn.Linear]
    first: Conv2d
    down: tuple[tuple[ImageBlock, ...], ...]
    middle: tuple[ImageBlock, Attention, ImageBlock]
    up: tuple[tuple[ImageBlock, ...], ...]
    norm: GroupNorm
    readout: Conv2d
    shape: tuple[int, int, int] = eqx.field(static=True)

    def __init__(
        self, shape: tuple[int, int, int], spec: "UNet", key: PRNGKeyArray, n_conditions: int = 0
    ):
        channels = [spec.width * m for m in spec.multipliers]
        n_level, keys = 2 * spec.width, iter(jr.split(key, 8 + 4 * spec.depth * len(channels)))
        self.shape = shape
        self.embed = (
            linear(LEVELS.size + n_conditions, n_level, 1.0, next(keys)),
            linear(n_level, n_level, 1.0, next(keys)),
        )
        self.first = _conv(shape[-1], spec.width, 3, 1.0, next(keys))
        down, skips, n = [], [spec.width], spec.width
        for c in channels:
            blocks = []
            for _ in range(spec.depth):
                blocks.append(ImageBlock(n, c, n_level, next(keys)))
                skips.append(n := c)
            down.append(tuple(blocks))
        self.down = tuple(down)
        middle = ImageBlock(n, n, n_level, next(keys)), Attention(n, next(keys))
        self.middle = (*middle, ImageBlock(n, n, n_level, next(keys)))
        up = []
        for level, c in reversed(list(enumerate(channels))):
            blocks = []
            # One block more at the finest level, for the skip from the first convolution.
            for _ in range(spec.depth + (level == 0)):
                blocks.append(ImageBlock(n + skips.pop(), c, n_level, next(keys)))
                n = c
            up.append(tuple(blocks))
        self.up = tuple(up)
        self.norm, self.readout = _norm(n), _conv(n, shape[-1], 3, 0.01, next(keys))

    @property
    def hidden_size(self) -> int:
        """The number of values in the largest hidden state, the one at the finest resolution."""
        return math.prod(self.shape[:2]) * self.first.out_channels

    def __call__(
        self, x: Float[Array, " d"], log_snr: Scalar, c: Float[Array, " k"] | None = None
    ) -> Float[Array, " d"]:
        first, last = self.embed
        level = jax.nn.silu(last(jax.nn.silu(first(with_level(log_snr, c)))))
        h = self.first(x.reshape(self.shape))
        skips = [h]
        for i, blocks in enumerate(self.down):
            h = downsample(h) if i else h
            for block in blocks:
                h = block(h, level)
                skips.append(h)
        enter, attend, leave = self.middle
        h = leave(attend(enter(h, level)), level)
        for i, blocks in enumerate(self.up):
            h = upsample(h) if i else h
            for block in blocks:
                h = block(jnp.concatenate([h, skips.pop()], axis=-1), level)
        return self.readout(jax.nn.silu(self.norm(h))).ravel()


def halvings(image_shape: tuple[int, ...]) -> int:
    """The number of times that both sides of an image (h, w, c) can be halved."""
    return min((side & -side).bit_length() - 1 for side in image_shape[:2])


def check_image_shape(
    image_shape: tuple[int, int, int], shape: tuple[int, ...], resolutions: int
) -> None:
    """Raises `ValueError` unless examples have this image shape and can be halved often enough."""
    if shape != (math.prod(image_shape),):
        raise ValueError(f"examples of shape {shape} are not images {image_shape}")
    if halvings(image_shape) < resolutions - 1:
        height, width, _ = image_shape
        raise ValueError(
            f"images of {height} × {width} cannot be halved {resolutions - 1} times;"
            " give fewer multipliers"
        )


@dataclass(frozen=True)
class UNet:
    """The specification of an `ImageUNet`.

    **Arguments:** `image_shape`, (h, w, c), with sides that can be halved once less often than
    there are resolutions; `width`, the channels at the finest resolution; `multipliers` of the
    width, one for every resolution; `depth`, the number of residual blocks at each resolution.
    """

    conditional: ClassVar[bool] = True
    for_images: ClassVar[bool] = True

    image_shape: tuple[int, int, int]
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    depth: int = 1

    def hidden_values(self, d: int) -> int:
        """Those of the finest resolution."""
        return self.width * d // 3

    def build(self, shape: tuple[int, ...], key: PRNGKeyArray, n_conditions: int = 0) -> ImageUNet:
        """A newly initialised network for flattened images, shape (h · w · c,).

        **Arguments:** `n_conditions`, the number of conditions that it takes besides the log-SNR.
        """
        check_image_shape(self.image_shape, shape, len(self.multipliers))
        return ImageUNet(self.image_shape, self, key, n_conditions)
