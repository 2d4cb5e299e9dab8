"""What surely does not fit into memory is refused first: trying may end the process."""

import os
from typing import Any

import jax

from scoreode.errors import InputError
from scoreode.recipes import Run

_FLOAT = 4  # bytes
_COPIES = 4  # of every weight in training: the model, its moving average, two moments


def check_memory(option: str, value: Any, n_bytes: float) -> None:
    """Raises `InputError` for an option's value that takes more than there is."""
    there = _memory()
    if n_bytes > there:
        raise InputError(
            f"{option} {value}: takes at least {n_bytes / 1e9:,.0f} GB of memory, and there are"
            f" {there / 1e9:,.0f}; give a smaller one"
        )


def check_training(run: Run) -> None:
    """Raises `InputError` for a network or a batch that takes more memory than there is.

    What is compared is less than what training takes: one layer's weights, one layer of a batch.
    """
    width, n = run.network.width, run.batch_size // run.micro_batches
    check_memory("width", width, _COPIES * _FLOAT * width**2)
    check_memory("batch_size", run.batch_size, _FLOAT * n * width)
    check_memory("n_probes", run.objective.n_probes, _FLOAT * run.objective.n_probes)


def _memory() -> float:
    """Bytes of all local devices, or, where these are processors, of the machine."""
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices()]
    if jax.default_backend() != "cpu" and all(limits):
        return float(sum(limit or 0 for limit in limits))
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not every system tells
        return float("inf")
