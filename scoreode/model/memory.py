"""Checks that there is enough memory before work starts."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import jax

from scoreode.errors import InputError

_GROUPS = ("memory.max", "memory/memory.limit_in_bytes")  # containers: cgroups version 2, 1
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def available() -> int | None:
    """The total memory of the device, or else of the machine, in bytes; None if unknown."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    return min(_limits(), default=None)


def _limits() -> Iterator[int]:
    """The memory limits of this machine, its container and this process, in bytes."""
    with suppress(AttributeError, ValueError, OSError):
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _GROUPS:
        with suppress(OSError, ValueError):  # absent, or "max"
            yield int((Path("/sys/fs/cgroup") / name).read_text())
    with suppress(ImportError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            yield limit


def check_fits(size: int, what: str, remedy: str) -> None:
    """Raises `InputError` if `size` bytes, the least that `what` takes, exceed the memory.

    **Arguments:** `what` and `remedy`, for the message.

    **Cost:** allocates nothing.
    """
    total = available()
    if total is not None and size > total:
        raise InputError(
            f"{what} takes at least {_with_unit(size)} of memory, and there are"
            f" {_with_unit(total)}: {remedy}"
        )


def _with_unit(size: float) -> str:
    power = 0
    while size >= 1000 and power < len(_UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.3g} {_UNITS[power]}"
