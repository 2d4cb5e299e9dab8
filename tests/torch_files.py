"""Files as PyTorch writes them, from NumPy arrays and without PyTorch."""

import io
import math
import pickle
import zipfile
from collections import OrderedDict

import numpy as np

KINDS = {"float32": "Float", "float64": "Double", "float16": "Half", "int64": "Long"}


class Global:
    """A name that the pickle gets, of a function or class that need not exist here."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self, *_):
        raise AssertionError("only named")


class Call:
    """A call of a name, as REDUCE."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Storage:
    def __init__(self, key, kind, numel):
        self.key, self.kind, self.numel = key, kind, numel


class Pickler(pickle._Pickler):
    """Names need not be importable; storages are persistent."""

    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            kind = Global("torch", f"{obj.kind}Storage")
            return ("storage", kind, obj.key, "cpu", obj.numel)
        return None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def pickled(state, protocol=2):
    file = io.BytesIO()
    Pickler(file, protocol).dump(state)
    return file.getvalue()


def tensor(storage, offset, shape, strides):
    function = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(function, storage, offset, tuple(shape), tuple(strides), False, OrderedDict())


class Archive:
    """The state with a tensor for every array, and the bytes of the storages."""

    def __init__(self, order="little"):
        self.storages, self.order = {}, order

    def of(self, value):
        if isinstance(value, np.ndarray):
            key, values = str(len(self.storages)), np.asarray(value, order="C")
            order = "<" if self.order == "little" else ">"
            self.storages[key] = values.astype(values.dtype.newbyteorder(order)).tobytes()
            strides = [stride // values.itemsize for stride in values.strides]
            storage = Storage(key, KINDS[value.dtype.name], value.size)
            return tensor(storage, 0, value.shape, strides)
        if isinstance(value, dict):
            return OrderedDict((name, self.of(part)) for name, part in value.items())
        return [self.of(part) for part in value] if isinstance(value, list) else value

    def write(self, path, data, compression=zipfile.ZIP_STORED):
        members = {"data.pkl": data, "byteorder": self.order.encode(), "version": b"3\n"}
        members |= {f"data/{key}": content for key, content in self.storages.items()}
        with zipfile.ZipFile(path, "w", compression) as file:
            for name, content in members.items():
                file.writestr(f"archive/{name}", content)
        return path


def save(state, path, order="little"):
    """As torch.save."""
    archive = Archive(order)
    return archive.write(path, pickled(archive.of(state)))


def random_weights(shapes, seed=0):
    """Float32 arrays of these shapes, by name: no branch of a network is silent with them."""
    rng, arrays = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        spread = 0.7 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.2
        centre = len(shape) == 1 and name.endswith(".weight")  # of a normalisation
        arrays[name] = (centre + spread * rng.normal(size=shape)).astype(np.float32)
    return arrays
