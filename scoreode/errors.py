"""The two ways in which a call can end badly, what a message says, and checks of single numbers."""

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

INSTALL_ALL = "pip install 'scoreode[all]'"
_LISTED = 10  # names or numbers in a message before "…"


def printable(text: str) -> str:
    """The text with what a terminal would obey, in names of columns and files, written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class InputError(ValueError):
    """The caller gave something that cannot be used (exit status 2)."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class FailureError(RuntimeError):
    """The work itself failed: a disk is full, training diverged (exit status 1)."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class TiesWarning(UserWarning):
    """Values that repeat: a continuous density of them is one of spikes."""

    def __init__(self, message: str):
        super().__init__(printable(message))


def listed(items: Sequence[Any]) -> str:
    """The first of them for a message, and how many there are if these are not all."""
    shown = ", ".join(str(item) for item in items[:_LISTED])
    return shown + (f", … ({len(items)} in all)" if len(items) > _LISTED else "")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """A message for a name that is not known, with the nearest that is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
    return f"unknown {kind} {name!r}: {hint}"


def check_positive(**options: float | None) -> None:
    """Raises `InputError` for an option that is given and not positive and finite."""
    for name, value in options.items():
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{name} {value}: must be positive and finite")


def check_at_most(**options: tuple[float | None, int]) -> None:
    """Raises `InputError` for an option that is given and beyond the number beside it."""
    for name, (value, most) in options.items():
        if value is not None and value > most:
            raise InputError(f"{name} {value}: must be at most {most}")


def check_not_negative(**options: float | None) -> None:
    """Raises `InputError` for an option that is given and negative or not finite."""
    for name, value in options.items():
        if value is not None and not 0 <= value < math.inf:
            raise InputError(f"{name} {value}: must be finite and not negative")


def check_seed(seed: int) -> None:
    """Raises `InputError` for a seed that is not among those that keys tell apart."""
    if not 0 <= seed < 2**32:
        raise InputError(f"seed {seed}: must be between 0 and {2**32 - 1}")
