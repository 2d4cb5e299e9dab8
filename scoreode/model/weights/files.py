"""Files of weights as maps of names to arrays; nothing in them is executed.

The content of a file says its format, whatever its name is.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.errors import InputError
from scoreode.model.weights.torch_zip import MAGIC, PICKLE, TRUSTED, Tensor, TorchZip

FORMATS = (
    "score_sde's checkpoints, of Flax or PyTorch (.pth); guided-diffusion's .pt; folders of"
    " diffusers with a UNet2DModel; state dicts of these as .safetensors"
)
_FLAX_ARRAY = 1  # Flax's extension type of MessagePack: (shape, dtype, bytes)
_HEAD = 8  # bytes of the length of a .safetensors header


@dataclass(frozen=True)
class Weights:
    """What a file holds: nested maps, and a function from what stands for an array to the array."""

    path: Path
    tree: Mapping[str, Any]
    flax: bool = False
    array: Callable[[Any], np.ndarray] = np.asarray

    def arrays(self, tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The arrays of a state dict. **Raises:** `InputError` for values that are none."""
        for name, value in tree.items():
            if not isinstance(name, str):  # it may be anything, and take forever to print
                raise InputError(f"{self.path}: holds a name that is no text")
            if not isinstance(value, Tensor | np.ndarray):
                raise InputError(f"{self.path}: {name} is not an array")
        return {name: self.array(value) for name, value in tree.items()}


def read(path: Path) -> Weights:
    """A file of Flax, PyTorch or safetensors.

    **Raises:** `InputError` for a file that is damaged or is none of these.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD + 1)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if head.startswith(MAGIC):
        torch = TorchZip(path)
        if not isinstance(torch.state, Mapping):
            raise InputError(f"{path}: holds no state dict")
        return Weights(path, torch.state, array=torch.array)
    if head[_HEAD:] == b"{" and int.from_bytes(head[:_HEAD], "little") <= size:
        return Weights(path, _read_safetensors(path))
    if head.startswith(PICKLE) and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise InputError(
            f"{path}: a bare pickle, as PyTorch wrote before version 1.6, which is not read;"
            f" {TRUSTED}"
        )
    return Weights(path, _read_flax(path), flax=True)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged, or no .safetensors ({error})") from error


def _read_flax(path: Path) -> Mapping[str, Any]:
    """The maps and arrays of a Flax checkpoint, one MessagePack map."""
    import msgpack

    try:
        state = msgpack.unpackb(path.read_bytes(), ext_hook=_flax_array, strict_map_key=False)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise InputError(
            f"{path}: not a checkpoint that is read, or cut short ({error}); these are: {FORMATS}"
        ) from error
    if not isinstance(state, Mapping):
        raise InputError(f"{path}: not a checkpoint that is read; these are: {FORMATS}")
    return state


def _flax_array(code: int, data: bytes) -> Any:
    import msgpack

    if code != _FLAX_ARRAY:
        return None  # a scalar of the optimiser's: nothing that is wanted
    shape, dtype, values = msgpack.unpackb(data)
    dtype = dtype.decode() if isinstance(dtype, bytes) else dtype
    if np.dtype(dtype).kind not in "fiub":
        raise ValueError(f"an array of {dtype}")
    return np.frombuffer(values, dtype).reshape(shape)
