"""How much memory there is, so that what cannot fit is refused before it is begun."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import jax

from scoreode.errors import InputError

_GROUPS = ("memory.max", "memory/memory.limit_in_bytes")  # of containers, by version of cgroups
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def available() -> int | None:
    """Bytes that the device, or else the machine, has in all; None where that cannot be told."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    return min(_limits(), default=None)


def _limits() -> Iterator[int]:
    """Of this machine, of its container, of this process."""
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
    """Raises `InputError` if so many bytes, of which `what` takes at least as many, are not there.

    **Cost:** no memory at all.
    """
    most = available()
    if most is not None and size > most:
        raise InputError(
            f"{what} takes {_shown(size)} of memory at least, and there are {_shown(most)}:"
            f" {remedy}"
        )


def _shown(size: float) -> str:
    power = 0
    while size >= 1000 and power < len(_UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.3g} {_UNITS[power]}"
