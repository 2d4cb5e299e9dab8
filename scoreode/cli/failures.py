"""What is said of an error, in one line with the remedy."""

import sys

from scoreode.errors import INSTALL_ALL, FailureError, InputError

_SMALLER = (
    "take fewer of what is computed together: fit --batch-size or --width, or more --micro-batches;"
    " sample -n; nll --samples or --n-probes"
)


def explain(error: Exception) -> str:
    """Why a command failed, for whoever typed it."""
    if isinstance(error, InputError | FailureError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed: {INSTALL_ALL}"
    first = str(error).partition("\n")[0]
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in first:
        return f"out of memory ({first or type(error).__name__}): {_SMALLER}"
    return _no_device() or f"{type(error).__name__}: {error} (--debug shows where)"


def _no_device() -> str | None:
    """Where JAX has none: of that other errors come, without a word of it."""
    if "jax" not in sys.modules:
        return None
    from scoreode.train import devices

    try:
        devices.check()
    except FailureError as failure:
        return str(failure)
    return None
