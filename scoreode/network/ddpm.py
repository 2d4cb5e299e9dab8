"""The U-Net of DDPM (Ho et al. 2020), as the diffusers and guided-diffusion packages have it.

Residual blocks and attention at every resolution that is listed, skip connections from every step
of the way down, group normalisation, sums that are not scaled. The noise level enters as sinusoids
of the step of a discrete diffusion that has this log-SNR; between steps it is a fraction. The
options are those in which published weights differ.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar
from scoreode.network.embeddings import Embedding, SinusoidsOfStep
from scoreode.network.layers import Conv2d, GroupNorm, Image, downsample, pixel_attention, upsample
from scoreode.network.mlp import linear, with_weight
from scoreode.network.unet import check_image_shape
from scoreode.steps import Steps

AFTER = ((0, 1), (0, 1))  # a strided convolution that pads below and to the right
AROUND = ((1, 1), (1, 1))
_Resampling = Callable[[Image], Image]


def _conv(
    n_in: int,
    n_out: int,
    size: int,
    gain: float,
    key: PRNGKeyArray,
    stride: int = 1,
    padding: tuple[tuple[int, int], tuple[int, int]] | None = None,
) -> Conv2d:
    """Weights of standard deviation gain / √fan-in, biases at zero."""
    half = size // 2
    pads = ((half, half),) * 2 if padding is None else padding
    conv = eqx.filter_eval_shape(Conv2d, n_in, n_out, size, stride, pads, key=key)
    return with_weight(conv, gain / math.sqrt(n_in * size**2) * jr.normal(key, conv.weight.shape))


class StepBlock(eqx.Module):
    """skip(x) + conv(φ(norm(conv(φ(norm(x))) + W φ(level)))); both terms may be resampled.

    With `film` the level scales and shifts instead: φ((1 + γ) ⊙ norm(h) + β).
    """

    norms: tuple[GroupNorm, GroupNorm]
    first: Conv2d
    last: Conv2d
    level: eqx.nn.Linear
    skip: Conv2d | None
    film: bool = eqx.field(static=True)
    resampling: _Resampling | None = eqx.field(static=True)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        spec: "DDPM",
        key: PRNGKeyArray,
        resampling: _Resampling | None = None,
    ):
        keys = jr.split(key, 4)
        self.norms = spec.norm(n_in), spec.norm(n_out)
        self.first = _conv(n_in, n_out, 3, 1.0, keys[0])
        self.last = _conv(n_out, n_out, 3, 1e-3, keys[1])
        self.level = linear(4 * spec.width, (1 + spec.film) * n_out, 1.0, keys[2])
        self.skip = None if n_in == n_out else _conv(n_in, n_out, 1, 1.0, keys[3])
        self.film, self.resampling = spec.film, resampling

    def __call__(self, x: Image, level: Embedding) -> Image:
        before, between = self.norms
        h = jax.nn.silu(before(x))
        if self.resampling is not None:
            h, x = self.resampling(h), self.resampling(x)
        h, level = self.first(h), self.level(jax.nn.silu(level))
        if self.film:
            gamma, beta = jnp.split(level, 2)
            h = (1 + gamma) * between(h) + beta
        else:
            h = between(h + level)
        skip = x if self.skip is None else self.skip(x)
        return skip + self.last(jax.nn.silu(h))


class StepAttention(eqx.Module):
    """x + attention of every pixel to all, by heads that each see their part of the channels."""

    norm: GroupNorm
    query: Conv2d
    key: Conv2d
    value: Conv2d
    out: Conv2d
    heads: int = eqx.field(static=True)

    def __init__(self, channels: int, spec: "DDPM", key: PRNGKeyArray):
        keys = jr.split(key, 4)
        self.norm, self.heads = spec.norm(channels), spec.heads_of(channels)
        project = [_conv(channels, channels, 1, 1.0, k) for k in keys[:3]]
        self.query, self.key, self.value = project
        self.out = _conv(channels, channels, 1, 1e-3, keys[3])

    def __call__(self, x: Image) -> Image:
        h = self.norm(x)
        parts = self.query(h), self.key(h), self.value(h)
        by_head = [part.reshape(*x.shape[:2], self.heads, -1) for part in parts]
        mixed = jax.vmap(pixel_attention, 2, 2)(*by_head)
        return x + self.out(mixed.reshape(x.shape))


class StepUNet(eqx.Module):
    """F(x, λ) for flattened images (h, w, c); the module's docstring describes the layers."""

    features: SinusoidsOfStep = eqx.field(static=True)
    embed: tuple[eqx.nn.Linear, eqx.nn.Linear]
    first: Conv2d
    down: tuple[tuple[StepBlock, ...], ...]
    down_attention: tuple[tuple[StepAttention, ...], ...]
    halve: tuple[Conv2d | StepBlock, ...]
    middle: tuple[StepBlock, StepAttention | None, StepBlock]
    up: tuple[tuple[StepBlock, ...], ...]
    up_attention: tuple[tuple[StepAttention, ...], ...]
    double: tuple[Conv2d | StepBlock, ...]
    norm: GroupNorm
    readout: Conv2d
    spec: "DDPM" = eqx.field(static=True)

    def __init__(self, spec: "DDPM", key: PRNGKeyArray):
        height, _, colours = spec.image_shape
        levels, out = range(len(spec.multipliers)), [spec.width * m for m in spec.multipliers]
        count = 16 + 4 * (spec.depth + 2) * len(out)
        keys: Iterator[PRNGKeyArray] = iter(jr.split(key, count))

        def block(n_in: int, n_out: int, resampling: _Resampling | None = None) -> StepBlock:
            return StepBlock(n_in, n_out, spec, next(keys), resampling)

        def attention(i: int, n: int) -> tuple[StepAttention, ...]:
            attends = height >> i in spec.attention
            return tuple(StepAttention(out[i], spec, next(keys)) for _ in range(n * attends))

        self.spec, w = spec, spec.width
        self.features = spec.features
        self.embed = linear(w, 4 * w, 1.0, next(keys)), linear(4 * w, 4 * w, 1.0, next(keys))
        self.first = _conv(colours, n := out[0], 3, 1.0, next(keys))
        down, down_attention, halve, skips = [], [], [], [n]
        for i in levels:
            down.append(tuple(block(n if j == 0 else out[i], out[i]) for j in range(spec.depth)))
            n = out[i]
            down_attention.append(attention(i, spec.depth))
            skips += [n] * spec.depth
            if i + 1 < len(out):
                strided = None if spec.by_blocks else _conv(n, n, 3, 1.0, next(keys), 2, spec.pads)
                halve.append(block(n, n, downsample) if strided is None else strided)
                skips.append(n)
        attend = StepAttention(n, spec, next(keys)) if spec.attend_in_middle else None
        self.middle = block(n, n), attend, block(n, n)
        up, up_attention, double = [], [], []
        for i in reversed(levels):
            here = []
            for _ in range(spec.depth + 1):
                here.append(block(n + skips.pop(), out[i]))
                n = out[i]
            up.append(tuple(here))
            up_attention.append(attention(i, spec.depth + 1))
            if i:
                conv = None if spec.by_blocks else _conv(n, n, 3, 1.0, next(keys))
                double.append(block(n, n, upsample) if conv is None else conv)
        self.down, self.down_attention = tuple(down), tuple(down_attention)
        self.up, self.up_attention = tuple(up), tuple(up_attention)
        self.halve, self.double = tuple(halve), tuple(double)
        self.norm, self.readout = spec.norm(n), _conv(n, colours, 3, 1e-3, next(keys))

    @property
    def hidden_size(self) -> int:
        """The number of values in the largest hidden state, the one at the finest resolution."""
        return math.prod(self.spec.image_shape[:2]) * self.first.out_channels

    def __call__(self, x: Float[Array, " d"], log_snr: Scalar) -> Float[Array, " d"]:
        first, last = self.embed
        level = last(jax.nn.silu(first(self.features(log_snr))))
        h = self.first(x.reshape(self.spec.image_shape))
        skips = [h]
        for i, blocks in enumerate(self.down):
            for j, block in enumerate(blocks):
                h = block(h, level)
                h = self.down_attention[i][j](h) if self.down_attention[i] else h
                skips.append(h)
            if i < len(self.halve):
                h = _halve(self.halve[i], h, level)
                skips.append(h)
        enter, attend, leave = self.middle
        h = enter(h, level)
        h = leave(h if attend is None else attend(h), level)
        for i, blocks in enumerate(self.up):
            for j, block in enumerate(blocks):
                h = block(jnp.concatenate([h, skips.pop()], axis=-1), level)
                h = self.up_attention[i][j](h) if self.up_attention[i] else h
            if i < len(self.double):
                h = _double(self.double[i], h, level)
        return self.readout(jax.nn.silu(self.norm(h))).ravel()


def _halve(layer: Conv2d | StepBlock, h: Image, level: Embedding) -> Image:
    return layer(h, level) if isinstance(layer, StepBlock) else layer(h)


def _double(layer: Conv2d | StepBlock, h: Image, level: Embedding) -> Image:
    return layer(h, level) if isinstance(layer, StepBlock) else layer(upsample(h))


@dataclass(frozen=True)
class DDPM:
    """The specification of a `StepUNet`; the defaults are those of DDPM for CIFAR-10.

    **Arguments:** `image_shape`, (h, w, c), with sides that can be halved once less often than
    there are resolutions; `width`; `multipliers` of the width, one for every resolution; `depth`,
    the number of residual blocks at each resolution; `attention`, the image heights at which
    attention is used; `attend_in_middle`, too; `heads` of the attention, or `head_channels`, the
    channels of each; `steps`, of the diffusion whose step is embedded; `groups` and `eps` of the
    group normalisation; `film`: the level scales and shifts; `by_blocks`: residual blocks change
    the resolution, not convolutions; `pad_after`: convolutions that halve pad below and to the
    right, not all around; `cosine_first`, `shift` and `unit` of the sinusoids.
    """

    conditional: ClassVar[bool] = False
    for_images: ClassVar[bool] = True

    image_shape: tuple[int, int, int]
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    depth: int = 2
    attention: tuple[int, ...] = (16,)
    attend_in_middle: bool = True
    heads: int = 1
    head_channels: int | None = None
    steps: Steps = Steps()
    groups: int = 32
    eps: float = 1e-6
    film: bool = False
    by_blocks: bool = False
    pad_after: bool = True
    cosine_first: bool = False
    shift: int = 1
    unit: float = 1.0

    @property
    def features(self) -> SinusoidsOfStep:
        """The embedding of the noise level."""
        sizes = self.cosine_first, self.shift, self.unit
        return SinusoidsOfStep(self.width // 2, self.steps, *sizes)

    @property
    def pads(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Of convolutions that halve."""
        return AFTER if self.pad_after else AROUND

    def norm(self, channels: int) -> GroupNorm:
        """Its normalisation. **Raises:** `ValueError` if the groups are no equal parts."""
        if channels % self.groups:
            raise ValueError(f"{channels} channels cannot be divided into {self.groups} groups")
        return GroupNorm(self.groups, channels, self.eps)

    def heads_of(self, channels: int) -> int:
        """The heads for so many channels. **Raises:** `ValueError` if they are no equal parts."""
        heads = self.heads if self.head_channels is None else channels // self.head_channels
        if heads < 1 or channels % heads:
            raise ValueError(f"{channels} channels cannot be divided into {heads} heads")
        return heads

    def hidden_values(self, d: int) -> int:
        """Those of the finest resolution."""
        return self.width * d // 3

    def build(self, shape: tuple[int, ...], key: PRNGKeyArray, n_conditions: int = 0) -> StepUNet:
        """A freshly initialised network for flattened images, shape (h · w · c,).

        **Raises:** `ValueError` for conditions, which it does not take.
        """
        if n_conditions:
            raise ValueError(f"{type(self).__name__} takes no conditions")
        check_image_shape(self.image_shape, shape, len(self.multipliers))
        return StepUNet(self, key)
