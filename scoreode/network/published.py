"""Published Flax weights of NCSN++ and DDPM++ in our networks (github.com/yang-song/score_sde).

Flax numbers the layers of a kind in the order in which they are called, and so does `_layers`.
Only the layout of arrays changes: kernels from (h, w, in, out) to (out, in, h, w).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from scoreode.network.ncsnpp import BigGANBlock, DDPMpp, NCSNpp, PixelAttention, PlusPlus

Params = Mapping[str, Any]
Entry = tuple[str, Any, Any]
"""A layer's path in the Flax tree, our layer, and the function that converts its kernel."""


def _conv_kernel(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(3, 2, 0, 1)


def _dense_kernel(kernel: np.ndarray) -> np.ndarray:
    return kernel.T


def _pixel_kernel(kernel: np.ndarray) -> np.ndarray:
    return kernel.T[:, :, None, None]


def _block_layers(path: str, block: BigGANBlock) -> Iterator[Entry]:
    before, between = block.norms
    yield f"{path}/GroupNorm_0/scale", before, None
    yield f"{path}/Conv_0/kernel", block.first, _conv_kernel
    yield f"{path}/Dense_0/kernel", block.level, _dense_kernel
    yield f"{path}/GroupNorm_1/scale", between, None
    yield f"{path}/Conv_1/kernel", block.last, _conv_kernel
    if block.skip is not None:
        yield f"{path}/Conv_2/kernel", block.skip, _conv_kernel


def _attention_layers(path: str, attention: PixelAttention) -> Iterator[Entry]:
    yield f"{path}/GroupNorm_0/scale", attention.norm, None
    parts = attention.query, attention.key, attention.value, attention.out
    for i, layer in enumerate(parts):
        yield f"{path}/NIN_{i}/W", layer, _pixel_kernel


def _layers(net: PlusPlus) -> Iterator[Entry]:
    """Every layer; layers of one kind in the order in which the published model calls them."""
    counts: Counter[str] = Counter()

    def name(kind: str) -> str:
        counts[kind] += 1
        return f"{kind}_{counts[kind] - 1}"

    for layer in net.embed:
        yield f"{name('Dense')}/kernel", layer, _dense_kernel
    yield f"{name('Conv')}/kernel", net.first, _conv_kernel
    blocks: list[BigGANBlock] = []
    for i, level in enumerate(net.down):
        blocks += [*level, *net.halve[i : i + 1]]
    blocks += [net.middle[0], net.middle[2]]
    for i, level in enumerate(net.up):
        blocks += [*level, *net.double[i : i + 1]]
    for block in blocks:
        yield from _block_layers(name("ResnetBlockBigGANpp"), block)
    attention = [a for level in net.down_attention for a in level]
    attention += [net.middle[1], *(a for a in net.up_attention if a is not None)]
    for layer in attention:
        yield from _attention_layers(name("AttnBlockpp"), layer)
    for layer in net.pyramid:
        yield f"{name('Downsample')}/Conv2d_0/weight", layer, _conv_kernel
    yield f"{name('GroupNorm')}/scale", net.norm, None
    yield f"{name('Conv')}/kernel", net.readout, _conv_kernel


def _flat(tree: Params, path: str = "") -> dict[str, np.ndarray]:
    """The leaves of nested mappings by their paths."""
    leaves: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _flat(value, f"{path}{name}/")
        else:
            leaves[path + name] = np.asarray(value)
    return leaves


def spec_of(
    params: Params,
    image_shape: tuple[int, int, int],
    multipliers: tuple[int, ...] = (1, 2, 2, 2),
    attention: tuple[int, ...] = (16,),
) -> NCSNpp | DDPMpp:
    """The `NCSNpp` or `DDPMpp` specification of these parameters.

    NCSN++ is published for pixels in [0, 1] and takes 2 x_t − 1 as input. In these coordinates σ is
    twice the value that the network was trained with, hence `unit` is 2.
    """
    arrays, levels = _flat(params), len(multipliers)
    blocks = len({path.split("/")[0] for path in arrays if path.startswith("ResnetBlock")})
    sizes: dict[str, Any] = {
        "image_shape": image_shape,
        "width": arrays["Conv_0/kernel"].shape[-1],
        "multipliers": multipliers,
        "attention": attention,
        "depth": (blocks - 3 * levels) // (2 * levels),
    }
    if "GaussianFourierProjection_0/W" in arrays:
        return NCSNpp(**sizes, unit=2.0, raw=True)
    return DDPMpp(**sizes)


def from_flax(spec: NCSNpp | DDPMpp, params: Params) -> PlusPlus:
    """The network with these parameters; its output is the noise, s = −F / σ.

    **Raises:** `ValueError` with the name of a parameter that is missing, has another shape, or is
    left over.
    """
    shape = (int(np.prod(spec.image_shape)),)
    net = eqx.filter_eval_shape(lambda key: spec.build(shape, key), jr.key(0))
    arrays = _flat(params)
    leaves, values = [], []

    def take(path: str, leaf: Any, value: Any) -> None:
        if value.shape != leaf.shape:
            raise ValueError(f"{path} has shape {value.shape} where {leaf.shape} is expected")
        leaves.append(leaf)
        values.append(jnp.asarray(value, jnp.float32))

    def pop(path: str) -> np.ndarray:
        if path not in arrays:
            raise ValueError(f"{path} is missing: not the weights of {spec}")
        return arrays.pop(path)

    if isinstance(spec, NCSNpp):
        take("W", net.features.w, pop("GaussianFourierProjection_0/W"))
    for path, layer, layout in _layers(net):
        # The published NCSN++ returns −ε, with the sign of the score; DDPM++ returns ε.
        sign = -1 if layer is net.readout and isinstance(spec, NCSNpp) else 1
        weight = pop(path)
        take(path, layer.weight, sign * (weight if layout is None else layout(weight)))
        bias = path.rsplit("/", 1)[0] + ("/b" if path.endswith("/W") else "/bias")
        take(bias, layer.bias, sign * pop(bias).reshape(layer.bias.shape))
    if arrays:
        raise ValueError(f"{next(iter(arrays))} is left over: not the weights of {spec}")
    filled = dict(zip(map(id, leaves), values, strict=True))
    return jax.tree.map(lambda leaf: filled[id(leaf)], net)
