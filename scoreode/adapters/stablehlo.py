"""A density as compiled functions on disk, which need JAX and NumPy, and not this package.

    export(fitted, folder)     # manifest.json, load.py, log_density.bin, score.bin, sample.bin

The functions are StableHLO, serialised by `jax.export`, for any number of rows and for CPUs, CUDA
and TPUs. They take and give float64: T and its inverse are in float64, and the flow is in float32,
on one grid of 40 steps.
"""

import inspect
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import export as jax_export
from jaxtyping import Array, Float, UInt32

from scoreode._typing import Scalar
from scoreode.adapters import loader
from scoreode.adapters.continuous import check_numbers, continuous
from scoreode.errors import InputError
from scoreode.flow import GridLikelihood
from scoreode.model.fitted import Fitted
from scoreode.model.stack import Whole
from scoreode.train import RunFolder, write_json
from scoreode.train.checkpoint import write_whole
from scoreode.train.folder import versions

PLATFORMS = "cpu", "cuda", "tpu"
_CHECKED = 16  # draws whose log-densities are compared with the native ones
Row = Float[Array, " d"]
Condition = Float[Array, " k"]
_Takes = tuple[str, tuple[int, ...], str]
"""An argument's name, the shape of one row, and the dtype."""


def export(model: Any, folder: RunFolder) -> dict[str, Any]:
    """Writes the functions, the loader and the manifest; returns the manifest.

    **Raises:** `InputError` for what has no density, see `continuous` and `check_numbers`, and
    where flatbuffers is not installed.

    **Cost:** compilations, and the log-densities of 16 draws.
    """
    fitted = continuous(model)
    check_numbers(fitted)
    if find_spec("flatbuffers") is None:  # JAX does not require what writes its own format
        raise InputError(
            "flatbuffers is not installed, which JAX needs to write and to read compiled functions:"
            " pip install 'scoreode[stablehlo]'"
        )
    takes, compiled = arguments(fitted), functions(fitted)
    manifest = {
        "version": loader.VERSION,
        "columns": list(fitted.data.columns),
        "conditions": list(fitted.data.conditions),
        "event_shape": [len(fitted.data.columns)],
        "image_shape": fitted.data.image_shape,
        "unit": "nats",
        "precision": "standardisation in float64, the flow in float32 on one grid of 40 steps",
        "error": _error(fitted, compiled["log_density"]),
        "platforms": list(PLATFORMS),
        "versions": versions(),
        "functions": {
            name: {
                "file": f"{name}.bin",
                "takes": [{"name": n, "shape": s, "dtype": t} for n, s, t in takes[name]],
                "gives": {"shape": aval.shape[1:], "dtype": str(aval.dtype)},
            }
            for name, aval in ((name, f.out_avals[0]) for name, f in compiled.items())
        },
    }
    for name, function in compiled.items():
        write_whole(folder.path / f"{name}.bin", bytes(function.serialize()))
    write_whole(folder.path / "load.py", inspect.getsource(loader).encode())
    write_json(folder.path / "manifest.json", manifest)
    return manifest


def arguments(fitted: Fitted) -> dict[str, tuple[_Takes, ...]]:
    """What every function takes: x, or the seed and the number of a draw; and c, if there is one.

    With equal seeds, draws of different numbers are independent.
    """
    d, k = len(fitted.data.columns), len(fitted.data.conditions)
    x, c = ("x", (d,), "float64"), (("c", (k,), "float64"),) if k else ()
    draw = ("seed", (), "uint32"), ("number", (), "uint32")
    return {"log_density": (x, *c), "score": (x, *c), "sample": (*draw, *c)}


def functions(fitted: Fitted) -> dict[str, jax_export.Exported]:
    """log p(x), ∇ log p(x) and draws, of n rows of every argument."""
    law, d = fitted.whole, len(fitted.data.columns)
    of_row = {"log_density": _log_density, "score": _score, "sample": partial(_sample, d)}
    takes = arguments(fitted)
    return {name: _compiled(partial(f, law), takes[name]) for name, f in of_row.items()}


def _compiled(function: Callable, takes: tuple[_Takes, ...]) -> jax_export.Exported:
    (n,) = jax_export.symbolic_shape("n")
    with jax.enable_x64(True):
        rows = [jax.ShapeDtypeStruct((n, *shape), dtype) for _, shape, dtype in takes]
        return jax_export.export(jax.jit(jax.vmap(function)), platforms=PLATFORMS)(*rows)


def _error(fitted: Fitted, log_density: jax_export.Exported) -> dict[str, Any]:
    """How far log-densities of draws, given the mean condition, are from the native ones."""
    condition = fitted.density.bijection.condition
    given = None if condition is None else np.tile(condition.scaling.mean, (_CHECKED, 1))
    x = fitted.sample(_CHECKED, c=given)
    native = fitted.log_likelihood(x, c=given).nats
    with jax.enable_x64(True):
        found = np.asarray(log_density.call(x, *(() if given is None else (given,))))
    largest = float(np.max(np.abs(found - native)))
    return {"rows": _CHECKED, "largest_difference_in_nats": largest}


def _log_density(law: Whole, x: Row, *c: Condition) -> Scalar:
    return law.log_density(x, *c, how=GridLikelihood(recompute=True), dtype=jnp.float32)


def _score(law: Whole, x: Row, *c: Condition) -> Row:
    return jax.grad(partial(_log_density, law))(x, *c)


def _sample(
    d: int, law: Whole, seed: UInt32[Array, ""], number: UInt32[Array, ""], *c: Condition
) -> Row:
    # As the native draws: the i-th of a seed does not depend on how many there are.
    return law.draw(jr.fold_in(jr.key(seed), number), d, *c, dtype=jnp.float32)
