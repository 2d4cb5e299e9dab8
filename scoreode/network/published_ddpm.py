"""Published weights of DDPM's U-Net in ours: names of diffusers and of guided-diffusion.

Both packages' modules are walked in one order. A table for each says how a layer is called.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from scoreode.network.ddpm import StepAttention, StepBlock, StepUNet
from scoreode.network.filling import Entry, Layout


class Names(NamedTuple):
    """The names of a block's layers, in the order of `_block_layers`."""

    before: str
    first: str
    level: str
    between: str
    last: str
    skip: str


_DIFFUSERS = Names("norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut")
_GUIDED = Names(
    *("in_layers.0", "in_layers.2", "emb_layers.1"),
    *("out_layers.0", "out_layers.3", "skip_connection"),
)
_QKV = ("query", "key", "value", "proj_attn"), ("to_q", "to_k", "to_v", "to_out.0")
"""The names of attention's layers in diffusers before and since version 0.15."""


def of_diffusers(net: StepUNet, old: bool = False) -> Iterator[Entry]:
    """Every leaf of a `UNet2DModel`. **Arguments:** `old`: attention has its names of before."""

    def attention(path: str, layer: StepAttention) -> Iterator[Entry]:
        yield from _layer(f"{path}.group_norm", layer.norm)
        parts = layer.query, layer.key, layer.value, layer.out
        for name, part in zip(_QKV[not old], parts, strict=True):
            yield from _layer(f"{path}.{name}", part)

    for i, layer in enumerate(net.embed):
        yield from _layer(f"time_embedding.linear_{i + 1}", layer)
    yield from _layer("conv_in", net.first)
    ways = (
        ("down", "downsamplers", net.down, net.down_attention, net.halve),
        ("up", "upsamplers", net.up, net.up_attention, net.double),
    )
    for way, sampler, blocks, attentions, samplers in ways:
        for i in range(len(blocks)):
            path = f"{way}_blocks.{i}"
            for j, block in enumerate(blocks[i]):
                yield from _block(f"{path}.resnets.{j}", block, _DIFFUSERS)
            for j, layer in enumerate(attentions[i]):
                yield from attention(f"{path}.attentions.{j}", layer)
            if i < len(samplers):
                yield from _layer(f"{path}.{sampler}.0.conv", samplers[i])
    enter, attend, leave = net.middle
    yield from _block("mid_block.resnets.0", enter, _DIFFUSERS)
    yield from _block("mid_block.resnets.1", leave, _DIFFUSERS)
    if attend is not None:
        yield from attention("mid_block.attentions.0", attend)
    yield from _layer("conv_norm_out", net.norm)
    yield from _layer("conv_out", net.readout)


def of_guided(net: StepUNet, by_part: bool = False) -> Iterator[Entry]:
    """Every leaf of a `UNetModel`; of a readout of mean and variance, that of the mean.

    **Arguments:** `by_part`: queries of all heads come first, then keys, then values; else all
    three of a head come together.
    """

    def attention(path: str, layer: StepAttention) -> Iterator[Entry]:
        yield from _layer(f"{path}.norm", layer.norm)
        for i, part in enumerate((layer.query, layer.key, layer.value)):
            heads = 1 if by_part else layer.heads
            yield from _layer(f"{path}.qkv", part, partial(_part, i, heads))
        yield from _layer(f"{path}.proj_out", layer.out)

    def sampler(path: str, name: str, layer: Any) -> Iterator[Entry]:
        by_block = isinstance(layer, StepBlock)
        yield from _block(path, layer, _GUIDED) if by_block else _layer(f"{path}.{name}", layer)

    for i, layer in enumerate(net.embed):
        yield from _layer(f"time_embed.{2 * i}", layer)
    yield from _layer("input_blocks.0.0", net.first)
    number = 1
    for i, blocks in enumerate(net.down):
        for j, block in enumerate(blocks):
            yield from _block(f"input_blocks.{number}.0", block, _GUIDED)
            if net.down_attention[i]:
                yield from attention(f"input_blocks.{number}.1", net.down_attention[i][j])
            number += 1
        if i < len(net.halve):
            yield from sampler(f"input_blocks.{number}.0", "op", net.halve[i])
            number += 1
    enter, attend, leave = net.middle
    yield from _block("middle_block.0", enter, _GUIDED)
    if attend is not None:
        yield from attention("middle_block.1", attend)
    yield from _block("middle_block.2", leave, _GUIDED)
    number = 0
    for i, blocks in enumerate(net.up):
        for j, block in enumerate(blocks):
            yield from _block(f"output_blocks.{number}.0", block, _GUIDED)
            if net.up_attention[i]:
                yield from attention(f"output_blocks.{number}.1", net.up_attention[i][j])
            number += 1
        if i < len(net.double):
            place = 2 if net.up_attention[i] else 1
            yield from sampler(f"output_blocks.{number - 1}.{place}", "conv", net.double[i])
    yield from _layer("out.0", net.norm)
    yield from _layer("out.2", net.readout, partial(_first, net.readout.out_channels))


def _block(path: str, block: StepBlock, names: Names) -> Iterator[Entry]:
    before, between = block.norms
    yield from _layer(f"{path}.{names.before}", before)
    yield from _layer(f"{path}.{names.first}", block.first)
    yield from _layer(f"{path}.{names.level}", block.level)
    yield from _layer(f"{path}.{names.between}", between)
    yield from _layer(f"{path}.{names.last}", block.last)
    if block.skip is not None:
        yield from _layer(f"{path}.{names.skip}", block.skip)


def _layer(path: str, layer: Any, layout: Layout | None = None) -> Iterator[Entry]:
    """Weight and bias."""
    yield Entry(f"{path}.weight", layer.weight, partial(_shaped, layer.weight.ndim, layout))
    yield Entry(f"{path}.bias", layer.bias, partial(_shaped, layer.bias.ndim, layout))


def _shaped(ndim: int, layout: Layout | None, array: np.ndarray) -> np.ndarray:
    """With so many axes: of a convolution over single pixels the last may be left out."""
    array = array if layout is None else layout(array)
    return array.reshape(*array.shape, *[1] * (ndim - array.ndim))


def _part(i: int, heads: int, array: np.ndarray) -> np.ndarray:
    """Queries (0), keys (1) or values (2) of all heads, from rows by head, then by part."""
    by_head = array.reshape(heads, 3, -1, *array.shape[1:])
    return by_head[:, i].reshape(-1, *array.shape[1:])


def _first(n: int, array: np.ndarray) -> np.ndarray:
    """Those of the mean; as many more are of the variance."""
    return array[:n] if len(array) == 2 * n else array
