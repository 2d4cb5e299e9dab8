"""Tensors of PyTorch's .pt and .pth files, of which nothing is executed.

Such a file is a zip with a pickle, `data.pkl`, and the bytes of every storage as a member of its
own. A pickle is a program: it names functions and calls them. Here it can name only what stands in
`_KNOWN`, all of it functions of this module that return inert records; any other name is an error
before anything is called. Records refuse state and attributes, so a pickle cannot change them.
"""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from scoreode.errors import InputError

MAGIC = b"PK\x03\x04"
PICKLE = b"\x80"
TRUSTED = (
    "if you trust the file, load it with PyTorch, save its state dict with"
    " safetensors.torch.save_file, and convert the .safetensors"
)
_HEADER = 30  # bytes of a zip member before its name
_EXTENSION = ("EXT1", "EXT2", "EXT4")  # names by number, from a table that others may fill
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")

_DTYPES = {
    "Double": np.float64,
    "Float": np.float32,
    "Half": np.float16,
    "BFloat16": jnp.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}


class _Refusal(pickle.UnpicklingError):
    """What a file may not hold."""


class _Inert:
    """Nothing that a pickle can change: the instruction BUILD finds no state to set."""

    def __setstate__(self, state: Any) -> None:
        raise _Refusal(f"a state for {type(self).__name__}")


@dataclass(frozen=True)
class _Name(_Inert):
    """A name of torch's that stands for a value: the dtype of a storage, or one that is unused."""

    dtype: str


@dataclass(frozen=True)
class _Storage(_Inert):
    """The member `data/{key}`, `numel` values of a dtype."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class Tensor(_Inert):
    """A view of a storage, in values."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _OrderedDict(dict):
    """`collections.OrderedDict`, which may carry attributes: they are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


@dataclass(frozen=True)
class _Function(_Inert):
    """What a pickle may call in place of a function of torch's."""

    call: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)


def _sizes(values: Any, what: str) -> tuple[int, ...]:
    """The values, if they are whole and not negative."""
    if not isinstance(values, tuple) or not all(type(v) is int for v in values):
        raise _Refusal(f"{what} that is no tuple of whole numbers")
    if min(values, default=0) < 0:
        raise _Refusal(f"{what} with a negative value, {min(values)}")
    return values


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """In place of `torch._utils._rebuild_tensor_v2`; the rest is about gradients.

    Every value lies in the storage, and no two at one place.
    """
    if not isinstance(storage, _Storage):
        raise _Refusal("a tensor without a storage")
    shape, strides = _sizes(shape, "a tensor's shape"), _sizes(strides, "a tensor's stride")
    (offset,) = _sizes((offset,), "a tensor's offset")
    if len(shape) != len(strides):
        raise _Refusal(f"strides {strides} for a shape {shape}")
    extent = 1
    for stride, n in sorted(zip(strides, shape, strict=True)):
        if n > 1 and stride < extent and 0 not in shape:
            raise _Refusal(f"a tensor of shape {shape}, strides {strides}: its values overlap")
        extent += (n - 1) * stride
    if offset + (0 if 0 in shape else extent) > storage.numel:
        raise _Refusal(
            f"a tensor of shape {shape}, strides {strides} at {offset}, beyond its storage of"
            f" {storage.numel} values"
        )
    return Tensor(storage, offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Any:
    """In place of `torch._utils._rebuild_parameter`."""
    return data


def _size(values: Any = ()) -> tuple[int, ...]:
    """In place of `torch.Size`."""
    return _sizes(values, "a size")


_KNOWN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Function(_OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
    ("torch", "Size"): _Function(_size),
    **{("torch", f"{name}Storage"): _Name(name) for name in _DTYPES},
    **{
        ("torch", name): _Name(name)
        for name in (
            *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8"),
            *("uint8", "bool"),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    """Reads a pickle by the names in `_KNOWN`."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        known = _KNOWN.get((module_name, global_name))
        if known is None:
            raise _Refusal(f"{module_name}.{global_name}")
        return known

    def persistent_load(self, pid: Any, /) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage"):
            raise _Refusal("a reference to no storage")
        _, kind, key, _, numel = pid
        if not (isinstance(kind, _Name) and kind.dtype in _DTYPES and isinstance(key, str)):
            raise _Refusal("a storage without a dtype or a key")
        return _Storage(key, kind.dtype, *_sizes((numel,), "a number of values"))


class TorchZip:
    """A .pt or .pth file: `state` has a `Tensor` for every tensor, which `array` reads.

    **Raises:** `InputError` for a file that is damaged, or holds anything besides tensors, numbers,
    strings and containers of them, by its name.
    """

    def __init__(self, path: Path):
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
            self._members = self._check(self._zip.infolist())
            self._prefix = self._root()
            self._order = self._byte_order()
            self.state = self._unpickle(self._read("data.pkl"))
        except _Refusal as error:
            raise InputError(f"{path}: holds {error}, which is not read; {TRUSTED}") from error
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        except Exception as error:  # of bytes that mean nothing any error may come
            raise InputError(f"{path}: damaged or cut short ({error})") from error

    def _check(self, members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        """The members by name. As they are stored, none is larger than its part of the file."""
        end = self._zip.start_dir
        for member in sorted(members, key=lambda member: -member.header_offset):
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise _Refusal(f"{member.filename} compressed or encrypted")
            if member.file_size != member.compress_size:
                raise _Refusal(f"{member.filename} with two sizes")
            if member.header_offset + _HEADER + len(member.filename) + member.file_size > end:
                raise _Refusal(f"{member.filename} overlapping another part of the file")
            end = member.header_offset
        named = {member.filename: member for member in members}
        if len(named) < len(members):
            raise _Refusal("two members of one name")
        return named

    def _root(self) -> str:
        """The folder of all members, whose name is free."""
        roots = [name.removesuffix("data.pkl") for name in self._members if _is_pickle(name)]
        if len(roots) != 1:
            raise _Refusal("no data.pkl: no tensors of PyTorch")
        if f"{roots[0]}constants.pkl" in self._members:
            raise _Refusal("a TorchScript program")
        return roots[0]

    def _byte_order(self) -> str:
        if f"{self._prefix}byteorder" not in self._members:
            return "<"
        order = self._read("byteorder").strip()
        if order not in (b"little", b"big"):
            raise _Refusal(f"bytes in the order {order!r:.20}")
        return "<" if order == b"little" else ">"

    def _read(self, name: str) -> bytes:
        return self._zip.read(self._members[self._prefix + name])

    def _unpickle(self, data: bytes) -> Any:
        for code, argument, _ in pickletools.genops(data):
            if code.name in _EXTENSION:
                raise _Refusal(f"the extension {argument}")
            # Memory is taken for all indices below one.
            if code.name in _MEMO and int(argument or 0) > len(data):
                raise _Refusal(f"a memo of {argument} entries")
        return _Unpickler(io.BytesIO(data), encoding="utf-8").load()

    def array(self, tensor: Tensor) -> np.ndarray:
        """The values of a tensor. **Raises:** `InputError` if its storage has another size."""
        storage, dtype = tensor.storage, np.dtype(_DTYPES[tensor.storage.dtype])
        member = self._members.get(f"{self._prefix}data/{storage.key}")
        size = storage.numel * dtype.itemsize
        if member is None or member.file_size != size:
            found = "is missing" if member is None else f"has {member.file_size} bytes"
            raise InputError(f"{self._path}: storage {storage.key} {found} where {size} are due")
        strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
        try:
            data = np.frombuffer(self._zip.read(member), f"u{dtype.itemsize}")
            data = data if self._order == "<" else data.byteswap()
            start = tensor.offset * dtype.itemsize
            return np.ndarray(tensor.shape, dtype, data, start, strides).copy()
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(f"{self._path}: damaged ({error})") from error


def _is_pickle(name: str) -> bool:
    return name.count("/") == 1 and name.endswith("/data.pkl")
