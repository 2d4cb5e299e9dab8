"""The density in this folder, by JAX and NumPy alone: `model = load(); model.log_density(x)`."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
from jax import export

VERSION, BLOCK = 1, 256  # of the manifest; rows that are evaluated together


def load(folder=Path(__file__).parent):
    """Functions log_density(x), score(x) and sample(seed, number); if conditional, also of c."""
    manifest = json.loads((Path(folder) / "manifest.json").read_text("utf-8"))
    if manifest["version"] > VERSION:
        newer = f"{folder}: version {manifest['version']}, and this loader reads up to {VERSION}"
        raise ValueError(f"{newer}; use the load.py in that folder")
    named = manifest["functions"].items()
    functions = {name: _by_blocks(Path(folder) / f["file"], f["takes"]) for name, f in named}
    return SimpleNamespace(manifest=manifest, **functions)


def _by_blocks(file, takes):
    """A function of rows; an argument without rows is that of every row."""
    call = jax.jit(export.deserialize(bytearray(file.read_bytes())).call)

    def function(*arguments):
        pairs = zip(arguments, takes, strict=True)
        arrays = [(np.asarray(a, t["dtype"]), tuple(t["shape"])) for a, t in pairs]
        n = max((len(a) for a, shape in arrays if a.ndim > len(shape)), default=1)
        rows = [np.broadcast_to(a, (n, *shape)) for a, shape in arrays]
        size = max(min(n, BLOCK), 1)
        blocks = np.minimum(np.arange(n + -n % size), n - 1).reshape(-1, size)
        with jax.enable_x64(True):
            parts = [np.asarray(call(*(a[block] for a in rows))) for block in blocks]
        return np.concatenate(parts)[:n]

    return function
