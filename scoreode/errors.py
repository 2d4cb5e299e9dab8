"""The two ways in which a call can end badly, what a message says, and checks of single numbers."""

import difflib
import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
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


def unknown(kind: str, name: Any, known: Iterable[str]) -> str:
    """A message for a name that is not known, with the nearest that is."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
    return f"unknown {kind} {name!r}: {hint}"


def is_number(value: Any) -> bool:
    """Whether this is a real number, of Python or NumPy; truth values are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def whole(name: str, value: Any, least: int = 1) -> int:
    """The value as an int. **Raises:** `InputError` unless it is a whole number, at least this."""
    if not (is_number(value) and isinstance(value, Integral) and int(value) >= least):
        raise _unfit(name, value, f"a whole number, at least {least}")
    return int(value)


def check_counts(**options: Any) -> None:
    """Raises `InputError` for an option that is given and no whole number above 0."""
    for name, value in options.items():
        if value is not None:
            whole(name, value)


def check_positive(**options: Any) -> None:
    """Raises `InputError` for an option that is given and no positive, finite number."""
    for name, value in options.items():
        if value is not None and not (is_number(value) and 0 < value < math.inf):
            raise _unfit(name, value, "a number, positive and finite")


def check_not_negative(**options: Any) -> None:
    """Raises `InputError` for an option that is given and no number from 0 on, and finite."""
    for name, value in options.items():
        if value is not None and not (is_number(value) and 0 <= value < math.inf):
            raise _unfit(name, value, "a number, finite and not negative")


def check_fraction(**options: Any) -> None:
    """Raises `InputError` for what is no number from 0 on and below 1."""
    for name, value in options.items():
        if not (is_number(value) and 0 <= value < 1):
            raise _unfit(name, value, "a number, at least 0 and below 1")


def _unfit(name: str, value: Any, kind: str) -> InputError:
    shown = repr(value) if isinstance(value, str) else value
    return InputError(f"{name} {shown}: must be {kind}")


def check_seed(seed: int) -> None:
    """Raises `InputError` for a seed that is not among those that keys tell apart."""
    if not 0 <= seed < 2**32:
        raise InputError(f"seed {seed}: must be between 0 and {2**32 - 1}")
