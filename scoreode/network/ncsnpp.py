"""NCSN++ and DDPM++, the networks of score-based SDEs on images (Song et al. 2021, appendix H).

Both are U-Nets of BigGAN's residual blocks, which also change the resolution, with attention at
16 × 16, sums scaled by 1/√2, and last layers that start at zero. NCSN++ filters when it changes the
resolution (FIR 1, 3, 3, 1), feeds the image to every resolution on the way down, and embeds the
noise level by random Fourier features of log σ. DDPM++ does neither, and embeds it by sinusoids of
the time.

The layers, their initialisation and the scaling of both inputs are the published ones, so that
published weights fit. Dropout is a deterministic function of the network's key: all derivatives at
one example share one mask.
"""

import abc
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar
from scoreode.network.convolution import convolve
from scoreode.network.embeddings import Embedding, FourierOfLogSigma, SinusoidsOfTime
from scoreode.network.layers import Conv2d, GroupNorm, Image, downsample, pixel_attention, upsample
from scoreode.network.mlp import with_weight
from scoreode.network.recompute import recompute
from scoreode.network.unet import check_image_shape

Resampling = Callable[[Image], Image]
_FIR = (1.0, 3.0, 3.0, 1.0)


def _variance_scaling(scale: float, key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    """Uniform weights of variance scale / mean(fan-in, fan-out); scale 0 stands for 1e-10."""
    initialiser = jax.nn.initializers.variance_scaling(
        scale or 1e-10, "fan_avg", "uniform", in_axis=1, out_axis=0
    )
    return initialiser(key, shape)


def _conv(
    n_in: int, n_out: int, size: int, key: PRNGKeyArray, scale: float = 1.0, stride: int = 1
) -> Conv2d:
    padding = size // 2 if stride == 1 else 0
    conv = eqx.filter_eval_shape(Conv2d, n_in, n_out, size, stride, padding, key=key)
    return with_weight(conv, _variance_scaling(scale, key, conv.weight.shape))


def _dense(n_in: int, n_out: int, key: PRNGKeyArray) -> eqx.nn.Linear:
    layer = eqx.filter_eval_shape(eqx.nn.Linear, n_in, n_out, key=key)
    return with_weight(layer, _variance_scaling(1.0, key, layer.weight.shape))


def _norm(channels: int) -> GroupNorm:
    return GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


def _fir_filter(h: Image, gain: float, padding: int, stride: int = 1, dilation: int = 1) -> Image:
    """The FIR filter over the rows and columns of every channel, with zero padding."""
    taps = jnp.asarray(_FIR, h.dtype) / sum(_FIR)
    filtered = convolve(
        jnp.moveaxis(h, -1, 0)[..., None],
        gain * jnp.outer(taps, taps)[..., None, None],
        stride=(stride, stride),
        padding=((padding, padding),) * 2,
        x_dilation=(dilation, dilation),
    )
    return jnp.moveaxis(filtered[..., 0], 0, -1)


def fir_downsample(h: Image) -> Image:
    """Downsampling by 2: the filter, then every second row and column."""
    return _fir_filter(h, 1.0, 1, stride=2)


def fir_upsample(h: Image) -> Image:
    """Upsampling by 2: zeros between rows and columns, then the filter.

    The gain keeps a constant image constant away from its border.
    """
    return _fir_filter(h, 4.0, 2, dilation=2)


class BigGANBlock(eqx.Module):
    """(skip(x) + conv(φ(norm(conv(φ(norm(x))) + W φ(level))))) / √2; both terms are resampled."""

    norms: tuple[GroupNorm, GroupNorm]
    first: Conv2d
    last: Conv2d
    level: eqx.nn.Linear
    skip: Conv2d | None
    resampling: Resampling | None = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        n_level: int,
        key: PRNGKeyArray,
        resampling: Resampling | None = None,
        dropout: float = 0.0,
    ):
        keys = jr.split(key, 4)
        self.norms = _norm(n_in), _norm(n_out)
        self.first = _conv(n_in, n_out, 3, keys[0])
        self.last = _conv(n_out, n_out, 3, keys[1], scale=0.0)
        self.level = _dense(n_level, n_out, keys[2])
        alike = n_in == n_out and resampling is None
        self.skip = None if alike else _conv(n_in, n_out, 1, keys[3])
        self.resampling, self.dropout = resampling, dropout

    def __call__(self, x: Image, level: Embedding, key: PRNGKeyArray | None = None) -> Image:
        """The block's output; a key applies dropout to the inputs of the last layer."""
        before, between = self.norms
        h = jax.nn.silu(before(x))
        if self.resampling is not None:
            h, x = self.resampling(h), self.resampling(x)
        h = self.first(h) + self.level(jax.nn.silu(level))
        skip = x if self.skip is None else self.skip(x)
        h = jax.nn.silu(between(h))
        if key is not None:
            kept = jr.bernoulli(key, 1 - self.dropout, h.shape)
            h = jnp.where(kept, h / (1 - self.dropout), 0)
        return (skip + self.last(h)) / math.sqrt(2)


class PixelAttention(eqx.Module):
    """(x + attention of every pixel to all, with one head) / √2."""

    norm: GroupNorm
    query: Conv2d
    key: Conv2d
    value: Conv2d
    out: Conv2d

    def __init__(self, channels: int, key: PRNGKeyArray):
        keys = jr.split(key, 4)
        self.norm = _norm(channels)
        project = [_conv(channels, channels, 1, k, scale=0.1) for k in keys[:3]]
        self.query, self.key, self.value = project
        self.out = _conv(channels, channels, 1, keys[3], scale=0.0)

    def __call__(self, x: Image) -> Image:
        h = self.norm(x)
        mixed = pixel_attention(self.query(h), self.key(h), self.value(h))
        return (x + self.out(mixed)) / math.sqrt(2)


class PlusPlus(eqx.Module):
    """F(x, λ) for flattened images (h, w, c), with the layers of NCSN++ or DDPM++."""

    features: FourierOfLogSigma | SinusoidsOfTime
    embed: tuple[eqx.nn.Linear, eqx.nn.Linear]
    first: Conv2d
    down: tuple[tuple[BigGANBlock, ...], ...]
    down_attention: tuple[tuple[PixelAttention, ...], ...]
    halve: tuple[BigGANBlock, ...]
    pyramid: tuple[Conv2d, ...]
    middle: tuple[BigGANBlock, PixelAttention, BigGANBlock]
    up: tuple[tuple[BigGANBlock, ...], ...]
    up_attention: tuple[PixelAttention | None, ...]
    double: tuple[BigGANBlock, ...]
    norm: GroupNorm
    readout: Conv2d
    key: PRNGKeyArray | None
    spec: "AbstractPlusPlus" = eqx.field(static=True)

    def __init__(self, spec: "AbstractPlusPlus", key: PRNGKeyArray):
        height, _, colours = spec.image_shape
        w, levels = spec.width, range(len(spec.multipliers))
        keys: Iterator[PRNGKeyArray] = iter(jr.split(key, 32 + 4 * spec.depth * len(levels)))
        half, double = spec.resamplings
        n_level, size = 4 * w, [height >> i for i in levels]
        out = [w * m for m in spec.multipliers]

        def block(n_in: int, n_out: int, resampling: Resampling | None = None) -> BigGANBlock:
            return BigGANBlock(n_in, n_out, n_level, next(keys), resampling, spec.dropout)

        self.spec, self.key = spec, None
        self.features = spec.features(next(keys))
        first, last = next(keys), next(keys)
        self.embed = _dense(self.features.size, n_level, first), _dense(n_level, n_level, last)
        self.first = _conv(colours, w, 3, next(keys))
        down, down_attention, halve, pyramid = [], [], [], []
        skips, n, n_image = [w], w, colours
        for i in levels:
            down.append(tuple(block(n if j == 0 else out[i], out[i]) for j in range(spec.depth)))
            n, attends = out[i], size[i] in spec.attention
            here = (PixelAttention(n, next(keys)) for _ in range(spec.depth if attends else 0))
            down_attention.append(tuple(here))
            skips += [n] * spec.depth
            if i + 1 < len(levels):
                halve.append(block(n, n, half))
                skips.append(n)
                if spec.pyramid:
                    pyramid.append(_conv(n_image, n, 3, next(keys), stride=2))
                    n_image = n
        self.middle = block(n, n), PixelAttention(n, next(keys)), block(n, n)
        up, up_attention, doubling = [], [], []
        for i in reversed(levels):
            here = []
            for _ in range(spec.depth + 1):
                here.append(block(n + skips.pop(), out[i]))
                n = out[i]
            up.append(tuple(here))
            attends = size[i] in spec.attention
            up_attention.append(PixelAttention(n, next(keys)) if attends else None)
            if i:
                doubling.append(block(n, n, double))
        self.down, self.down_attention = tuple(down), tuple(down_attention)
        self.halve, self.pyramid = tuple(halve), tuple(pyramid)
        self.up, self.up_attention, self.double = tuple(up), tuple(up_attention), tuple(doubling)
        self.norm, self.readout = _norm(n), _conv(n, colours, 3, next(keys), scale=0.0)

    @property
    def hidden_size(self) -> int:
        """The number of values in the largest hidden state, the one at the finest resolution."""
        return math.prod(self.spec.image_shape[:2]) * self.spec.width

    def with_dropout(self, key: PRNGKeyArray) -> Self:
        """The network with this key's dropout mask; itself if `dropout` is 0."""
        if self.spec.dropout == 0:
            return self
        return eqx.tree_at(lambda net: net.key, self, key, is_leaf=lambda leaf: leaf is None)

    def __call__(self, x: Float[Array, " d"], log_snr: Scalar) -> Float[Array, " d"]:
        spec, dtype = self.spec, jnp.bfloat16 if self.spec.half else x.dtype
        image = spec.input(x, log_snr).reshape(spec.image_shape)
        level = self.features(log_snr)
        net = jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, self)
        F = net._forward(image.astype(dtype), level.astype(dtype))
        return F.ravel().astype(x.dtype)

    def _forward(self, image: Image, level: Embedding) -> Image:
        first, last = self.embed
        level = last(jax.nn.silu(first(level)))
        number = itertools.count()

        def call(layer: Callable[..., Image], h: Image, *others: Any) -> Image:
            if not self.spec.recompute:
                return layer(h, *others)
            finest = len(h) == self.spec.image_shape[0]  # whose results take most of the memory
            return recompute(layer, keep_convolutions=not finest)(h, *others)

        def run(block: BigGANBlock, h: Image) -> Image:
            key = None if self.key is None else jr.fold_in(self.key, next(number))
            return call(block, h, level, key)

        h = self.first(image)
        skips = [h]
        for i, (blocks, attention) in enumerate(zip(self.down, self.down_attention, strict=True)):
            for j, block in enumerate(blocks):
                h = run(block, h)
                h = call(attention[j], h) if attention else h
                skips.append(h)
            if i < len(self.halve):
                h = run(self.halve[i], h)
                if self.pyramid:
                    image = self.pyramid[i](_fir_filter(image, 1.0, 2))
                    image = h = (image + h) / math.sqrt(2)
                skips.append(h)
        enter, attend, leave = self.middle
        h = run(leave, call(attend, run(enter, h)))
        for i, (blocks, attention) in enumerate(zip(self.up, self.up_attention, strict=True)):
            for block in blocks:
                h = run(block, jnp.concatenate([h, skips.pop()], axis=-1))
            h = h if attention is None else call(attention, h)
            h = run(self.double[i], h) if i < len(self.double) else h
        return call(self._read, h)

    def _read(self, h: Image) -> Image:
        return self.readout(jax.nn.silu(self.norm(h)))


@dataclass(frozen=True)
class AbstractPlusPlus(abc.ABC):
    """The specification of a network of this family; the defaults are the published models'.

    **Arguments:** `image_shape`, (h, w, c), with sides that can be halved once less often than
    there are resolutions; `width`, the channels at the finest resolution; `multipliers` of the
    width, one for every resolution; `depth`, the number of residual blocks at each resolution, 8 in
    the deep models; `attention`, the image heights at which attention is used; `dropout`, the share
    of the inputs of every block's last layer that training drops, 0.1 as published for CIFAR-10;
    `half`: compute in bfloat16; `recompute`: gradients keep the layers' inputs and, below the
    finest resolution, what convolutions give, and compute the rest again, for less memory and more
    time.
    """

    conditional: ClassVar[bool] = False
    for_images: ClassVar[bool] = True

    image_shape: tuple[int, int, int]
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    depth: int = 4
    attention: tuple[int, ...] = (16,)
    dropout: float = 0.0
    half: bool = False
    recompute: bool = False

    @property
    @abc.abstractmethod
    def resamplings(self) -> tuple[Resampling, Resampling]:
        """The functions that halve and double the resolution."""

    @property
    @abc.abstractmethod
    def pyramid(self) -> bool:
        """Whether every resolution gets the image as an input."""

    @abc.abstractmethod
    def features(self, key: PRNGKeyArray) -> FourierOfLogSigma | SinusoidsOfTime:
        """The embedding of the noise level."""

    @abc.abstractmethod
    def input(self, x: Float[Array, " d"], log_snr: Scalar) -> Float[Array, " d"]:
        """The input of the first layer."""

    def hidden_values(self, d: int) -> int:
        """Those of the finest resolution."""
        return self.width * d // 3

    def build(self, shape: tuple[int, ...], key: PRNGKeyArray, n_conditions: int = 0) -> PlusPlus:
        """A freshly initialised network for flattened images, shape (h · w · c,).

        **Raises:** `ValueError` for conditions, which it does not take.
        """
        if n_conditions:
            raise ValueError(f"{type(self).__name__} takes no conditions")
        check_image_shape(self.image_shape, shape, len(self.multipliers))
        return PlusPlus(self, key)


@dataclass(frozen=True)
class NCSNpp(AbstractPlusPlus):
    """The specification of NCSN++.

    **Arguments:** those of `AbstractPlusPlus`. Published weights need two more: `unit`, by which σ
    is divided before its logarithm; `raw`: the first layer gets x_t of a VE process, not
    x_t / √(1 + σ²).
    """

    unit: float = 1.0
    raw: bool = False

    @property
    def resamplings(self) -> tuple[Resampling, Resampling]:
        return fir_downsample, fir_upsample

    @property
    def pyramid(self) -> bool:
        return True

    def features(self, key: PRNGKeyArray) -> FourierOfLogSigma:
        return FourierOfLogSigma(16 * jr.normal(key, (self.width,)), math.log(self.unit))

    def input(self, x: Float[Array, " d"], log_snr: Scalar) -> Float[Array, " d"]:
        return x * jnp.sqrt(1 + jnp.exp(-log_snr)) if self.raw else x


@dataclass(frozen=True)
class DDPMpp(AbstractPlusPlus):
    """The specification of DDPM++, with the arguments of `AbstractPlusPlus`."""

    @property
    def resamplings(self) -> tuple[Resampling, Resampling]:
        return downsample, upsample

    @property
    def pyramid(self) -> bool:
        return False

    def features(self, key: PRNGKeyArray) -> SinusoidsOfTime:  # noqa: ARG002 (nothing is random)
        return SinusoidsOfTime(self.width // 2)

    def input(self, x: Float[Array, " d"], log_snr: Scalar) -> Float[Array, " d"]:  # noqa: ARG002
        return x
