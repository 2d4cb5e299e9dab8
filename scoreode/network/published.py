"""Published weights of NCSN++ and DDPM++ in our networks (github.com/yang-song/score_sde).

Flax numbers the layers of a kind in the order in which they are called, and so does `_layers`.
Only the layout of arrays changes: kernels from (h, w, in, out) to (out, in, h, w). Weights of the
PyTorch version (score_sde_pytorch) get Flax's names first.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from scoreode.network.embeddings import FourierOfLogSigma
from scoreode.network.filling import Entry, Layout, fill
from scoreode.network.ncsnpp import BigGANBlock, DDPMpp, NCSNpp, PixelAttention, PlusPlus

Params = Mapping[str, Any]
Named = tuple[str, Any, Layout | None]
"""A layer's path in the Flax tree, our layer, and the function that converts its kernel."""


def _conv_kernel(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(3, 2, 0, 1)


def _dense_kernel(kernel: np.ndarray) -> np.ndarray:
    return kernel.T


def _pixel_kernel(kernel: np.ndarray) -> np.ndarray:
    return kernel.T[:, :, None, None]


def _block_layers(path: str, block: BigGANBlock) -> Iterator[Named]:
    before, between = block.norms
    yield f"{path}/GroupNorm_0/scale", before, None
    yield f"{path}/Conv_0/kernel", block.first, _conv_kernel
    yield f"{path}/Dense_0/kernel", block.level, _dense_kernel
    yield f"{path}/GroupNorm_1/scale", between, None
    yield f"{path}/Conv_1/kernel", block.last, _conv_kernel
    if block.skip is not None:
        yield f"{path}/Conv_2/kernel", block.skip, _conv_kernel


def _attention_layers(path: str, attention: PixelAttention) -> Iterator[Named]:
    yield f"{path}/GroupNorm_0/scale", attention.norm, None
    parts = attention.query, attention.key, attention.value, attention.out
    for i, layer in enumerate(parts):
        yield f"{path}/NIN_{i}/W", layer, _pixel_kernel


def _layers(net: PlusPlus) -> Iterator[Named]:
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
    return fill(spec, math.prod(spec.image_shape), _entries, _flat(params))


def _entries(net: PlusPlus) -> Iterator[Entry]:
    """Every parameter."""
    if isinstance(net.features, FourierOfLogSigma):
        yield Entry("GaussianFourierProjection_0/W", net.features.w)
    for path, layer, layout in _layers(net):
        # The published NCSN++ returns −ε, with the sign of the score; DDPM++ returns ε.
        sign = -1 if layer is net.readout and isinstance(net.spec, NCSNpp) else 1
        yield Entry(path, layer.weight, partial(_weight, sign, layout))
        bias = path.rsplit("/", 1)[0] + ("/b" if path.endswith("/W") else "/bias")
        yield Entry(bias, layer.bias, partial(_bias, sign, layer.bias.shape))


def _weight(sign: int, layout: Layout | None, weight: np.ndarray) -> np.ndarray:
    return sign * (weight if layout is None else layout(weight))


def _bias(sign: int, shape: tuple[int, ...], bias: np.ndarray) -> np.ndarray:
    return sign * bias.reshape(shape)


_KINDS = (  # of a module in PyTorch, by what is in it
    ("Dense_0", "ResnetBlockBigGANpp"),
    ("NIN_0", "AttnBlockpp"),
    ("Conv2d_0", "Downsample"),
    ("W", "GaussianFourierProjection"),
)
_BARE = {4: "Conv", 2: "Dense", 1: "GroupNorm"}  # by the weight's dimensions


def flax_of_torch(arrays: Mapping[str, np.ndarray]) -> Params:
    """The parameters as Flax names and lays them out, from those of score_sde in PyTorch.

    There all modules stand in one list, in the order in which they are called, so the modules of a
    kind have Flax's order.

    **Raises:** `ValueError` with the name of a parameter of another model.
    """
    modules: dict[int, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        found = re.fullmatch(r"(?:module\.)?all_modules\.(\d+)\.(.+)", name)
        if found is None:
            raise ValueError(f"{name}: not of NCSN++ or DDPM++")
        modules.setdefault(int(found[1]), {})[found[2]] = array
    params: dict[str, Any] = {}
    counts: Counter[str] = Counter()
    for number, parts in sorted(modules.items()):
        inside = {part.split(".")[0] for part in parts}
        bare = _BARE.get(parts["weight"].ndim) if "weight" in parts else None
        kind = next((kind for part, kind in _KINDS if part in inside), bare)
        if kind is None:
            raise ValueError(f"all_modules.{number}: a module of no known kind")
        params[f"{kind}_{counts[kind]}"] = dict(_flax_array(*part) for part in parts.items())
        counts[kind] += 1
    return params


def _flax_array(path: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """A parameter of a module: its name and its layout in Flax."""
    *layer, name = path.split(".")
    if name == "weight" and array.ndim == 1:
        name = "scale"
    elif name == "weight":
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        name = "weight" if layer == ["Conv2d_0"] else "kernel"
    return "/".join([*layer, name]), array
