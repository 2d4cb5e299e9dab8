"""NCSN++ and DDPM++, the networks of score-based SDEs on images (Song et al. 2021, appendix H).

U-Nets of BigGAN's residual blocks, which also change the resolution; attention at 16 × 16; sums
scaled by 1/√2; last layers that start at zero. NCSN++ filters when it changes the resolution (FIR
1, 3, 3, 1), feeds the image to every resolution on the way down, and knows the noise by random
Fourier features of log σ; DDPM++ does none of this and knows it by sinusoids of the time.

The layers, their initialisation and the scaling of both inputs are the published ones, so that
published weights fit. Dropout is a network of its own for every key: training differentiates one.
"""

import abc
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar
from scoreode.network.convolution import convolved
from scoreode.network.layers import Conv2d, GroupNorm, Image, attended, doubled, halved
from scoreode.network.mlp import weighted
from scoreode.network.unet import check_image_shape

Embedding = Float[Array, " level"]
Resampling = Callable[[Image], Image]
_FIR = (1.0, 3.0, 3.0, 1.0)
_BETA = 0.1, 20.0  # of the published VP process, whose time DDPM++ is told


def _variance_scaled(scale: float, key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    """Uniform of variance scale / mean of fan-in and fan-out; a scale of 0 is 1e-10."""
    initialiser = jax.nn.initializers.variance_scaling(
        scale or 1e-10, "fan_avg", "uniform", in_axis=1, out_axis=0
    )
    return initialiser(key, shape)


def _conv(
    n_in: int, n_out: int, size: int, key: PRNGKeyArray, scale: float = 1.0, stride: int = 1
) -> Conv2d:
    padding = size // 2 if stride == 1 else 0
    conv = eqx.filter_eval_shape(Conv2d, n_in, n_out, size, stride, padding, key=key)
    return weighted(conv, _variance_scaled(scale, key, conv.weight.shape))


def _dense(n_in: int, n_out: int, key: PRNGKeyArray) -> eqx.nn.Linear:
    layer = eqx.filter_eval_shape(eqx.nn.Linear, n_in, n_out, key=key)
    return weighted(layer, _variance_scaled(1.0, key, layer.weight.shape))


def _norm(channels: int) -> GroupNorm:
    return GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


def _filtered(h: Image, gain: float, padding: int, stride: int = 1, dilation: int = 1) -> Image:
    """The FIR filter over rows and columns of every channel, with zeros around."""
    taps = jnp.asarray(_FIR, h.dtype) / sum(_FIR)
    filtered = convolved(
        jnp.moveaxis(h, -1, 0)[..., None],
        gain * jnp.outer(taps, taps)[..., None, None],
        stride=(stride, stride),
        padding=((padding, padding),) * 2,
        x_dilation=(dilation, dilation),
    )
    return jnp.moveaxis(filtered[..., 0], 0, -1)


def filtered_halved(h: Image) -> Image:
    """Filtered, and every second row and column of it."""
    return _filtered(h, 1.0, 1, stride=2)


def filtered_doubled(h: Image) -> Image:
    """Zeros between rows and columns, then filtered, so that a constant stays itself inside."""
    return _filtered(h, 4.0, 2, dilation=2)


class BigGANBlock(eqx.Module):
    """(skip(x) + conv(φ(norm(conv(φ(norm(x))) + W φ(level))))) / √2, resampled inside both."""

    norms: tuple[GroupNorm, GroupNorm]
    first: Conv2d
    last: Conv2d
    level: eqx.nn.Linear
    skip: Conv2d | None
    resampled: Resampling | None = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        n_level: int,
        key: PRNGKeyArray,
        resampled: Resampling | None = None,
        dropout: float = 0.0,
    ):
        keys = jr.split(key, 4)
        self.norms = _norm(n_in), _norm(n_out)
        self.first = _conv(n_in, n_out, 3, keys[0])
        self.last = _conv(n_out, n_out, 3, keys[1], scale=0.0)
        self.level = _dense(n_level, n_out, keys[2])
        alike = n_in == n_out and resampled is None
        self.skip = None if alike else _conv(n_in, n_out, 1, keys[3])
        self.resampled, self.dropout = resampled, dropout

    def __call__(self, x: Image, level: Embedding, key: PRNGKeyArray | None = None) -> Image:
        """With a key, a part `dropout` of the last layer's inputs is 0 and the rest larger."""
        before, between = self.norms
        h = jax.nn.silu(before(x))
        if self.resampled is not None:
            h, x = self.resampled(h), self.resampled(x)
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
        mixed = attended(self.query(h), self.key(h), self.value(h))
        return (x + self.out(mixed)) / math.sqrt(2)


class FourierOfLogSigma(eqx.Module):
    """(sin, cos)(2π w log(σ/α)), with w ~ N(0, 16²) drawn once and never trained."""

    w: Float[Array, " m"]
    log_unit: float = eqx.field(static=True)

    @property
    def size(self) -> int:
        """How many features there are."""
        return 2 * self.w.size

    def __call__(self, log_snr: Scalar) -> Embedding:
        log_sigma = -log_snr / 2 - self.log_unit
        phase = 2 * jnp.pi * lax.stop_gradient(self.w) * log_sigma
        return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)])


class SinusoidsOfTime(eqx.Module):
    """(sin, cos)(999 t 10000^(−i/(m−1))), t the time when the published VP has this log-SNR."""

    m: int = eqx.field(static=True)

    @property
    def size(self) -> int:
        """How many features there are."""
        return 2 * self.m

    def __call__(self, log_snr: Scalar) -> Embedding:
        # −2 log α = β_0 t + (β_1 − β_0) t²/2, and α² = sigmoid(log-SNR).
        low, high = _BETA
        c = 2 * (high - low) * jax.nn.softplus(-log_snr)
        t = c / (high - low) / (jnp.sqrt(low**2 + c) + low)
        rates = jnp.exp(-math.log(10_000) / (self.m - 1) * jnp.arange(self.m, dtype=log_snr.dtype))
        phase = 999 * t * rates
        return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)])


class PlusPlus(eqx.Module):
    """F(x, λ) for flattened images (h, w, c), by the layers of NCSN++ or of DDPM++."""

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

        def block(n_in: int, n_out: int, how: Resampling | None = None) -> BigGANBlock:
            return BigGANBlock(n_in, n_out, n_level, next(keys), how, spec.dropout)

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
        """How many values a hidden state has at the finest resolution, where they are most."""
        return math.prod(self.spec.image_shape[:2]) * self.spec.width

    def dropping(self, key: PRNGKeyArray) -> Self:
        """The network with hidden values dropped as the key says; itself where none ever are."""
        if self.spec.dropout == 0:
            return self
        return eqx.tree_at(lambda net: net.key, self, key, is_leaf=lambda leaf: leaf is None)

    def __call__(self, x: Float[Array, " d"], log_snr: Scalar) -> Float[Array, " d"]:
        spec, dtype = self.spec, jnp.bfloat16 if self.spec.half else x.dtype
        image = spec.input(x, log_snr).reshape(spec.image_shape)
        level = self.features(log_snr)
        net = jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, self)
        F = net._carried(image.astype(dtype), level.astype(dtype))
        return F.ravel().astype(x.dtype)

    def _carried(self, image: Image, level: Embedding) -> Image:
        first, last = self.embed
        level = last(jax.nn.silu(first(level)))
        number = itertools.count()

        def run(block: BigGANBlock, h: Image) -> Image:
            call = eqx.filter_checkpoint(block) if self.spec.recompute else block
            return call(
                h, level, self.key if self.key is None else jr.fold_in(self.key, next(number))
            )

        h = self.first(image)
        skips = [h]
        for i, (blocks, attention) in enumerate(zip(self.down, self.down_attention, strict=True)):
            for j, block in enumerate(blocks):
                h = run(block, h)
                h = attention[j](h) if attention else h
                skips.append(h)
            if i < len(self.halve):
                h = run(self.halve[i], h)
                if self.pyramid:
                    image = self.pyramid[i](_filtered(image, 1.0, 2))
                    image = h = (image + h) / math.sqrt(2)
                skips.append(h)
        enter, attend, leave = self.middle
        h = run(leave, attend(run(enter, h)))
        for i, (blocks, attention) in enumerate(zip(self.up, self.up_attention, strict=True)):
            for block in blocks:
                h = run(block, jnp.concatenate([h, skips.pop()], axis=-1))
            h = h if attention is None else attention(h)
            h = run(self.double[i], h) if i < len(self.double) else h
        return self.readout(jax.nn.silu(self.norm(h)))


@dataclass(frozen=True)
class AbstractPlusPlus(abc.ABC):
    """What a network of this family is built from; the defaults are the published models.

    **Arguments:** `image_shape`, (h, w, c), with sides that can be halved as often as there are
    resolutions but one; `width`, the channels of the finest resolution, and `multipliers` of it
    for every one; `depth`, residual blocks in each, 8 in the deep models; `attention`, the heights
    with attention; `dropout`, what part of the inputs of every block's last layer training drops,
    as published 0.1 for CIFAR-10; `half`: compute in bfloat16; `recompute`: gradients keep the
    blocks' inputs alone, for less memory and more time.
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
        """Down, and up."""

    @property
    @abc.abstractmethod
    def pyramid(self) -> bool:
        """Whether every resolution is fed the image."""

    @abc.abstractmethod
    def features(self, key: PRNGKeyArray) -> FourierOfLogSigma | SinusoidsOfTime:
        """Of the noise level."""

    @abc.abstractmethod
    def input(self, x: Float[Array, " d"], log_snr: Scalar) -> Float[Array, " d"]:
        """What the first layer sees."""

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
    """NCSN++.

    **Arguments:** those of `AbstractPlusPlus`; `unit`, what σ is divided by before its logarithm,
    and `raw`: the network sees x_t of a VE process, not x_t / √(1 + σ²), both as published weights
    need it.
    """

    unit: float = 1.0
    raw: bool = False

    @property
    def resamplings(self) -> tuple[Resampling, Resampling]:
        return filtered_halved, filtered_doubled

    @property
    def pyramid(self) -> bool:
        return True

    def features(self, key: PRNGKeyArray) -> FourierOfLogSigma:
        return FourierOfLogSigma(16 * jr.normal(key, (self.width,)), math.log(self.unit))

    def input(self, x: Float[Array, " d"], log_snr: Scalar) -> Float[Array, " d"]:
        return x * jnp.sqrt(1 + jnp.exp(-log_snr)) if self.raw else x


@dataclass(frozen=True)
class DDPMpp(AbstractPlusPlus):
    """DDPM++, with the arguments of `AbstractPlusPlus`."""

    @property
    def resamplings(self) -> tuple[Resampling, Resampling]:
        return halved, doubled

    @property
    def pyramid(self) -> bool:
        return False

    def features(self, key: PRNGKeyArray) -> SinusoidsOfTime:  # noqa: ARG002 (nothing is random)
        return SinusoidsOfTime(self.width // 2)

    def input(self, x: Float[Array, " d"], log_snr: Scalar) -> Float[Array, " d"]:  # noqa: ARG002
        return x
