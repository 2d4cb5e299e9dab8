"""The two kinds of errors, the format of messages, and checks of single numbers."""

import difflib
import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

INSTALL_ALL = "pip install 'scoreode[all]'"
_LISTED = 10  # names or numbers in a message before "…"


def printable(text: str) -> str:
    """The text with control characters escaped, which names of columns and files may contain."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class InputError(ValueError):
    """The caller's input cannot be used (exit status 2)."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class FailureError(RuntimeError):
    """The work itself failed: a disk is full, training diverged (exit status 1)."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class TiesWarning(UserWarning):
    """Values repeat, so that a continuous density would consist of spikes."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class OutlierWarning(UserWarning):
    """Values lie far from all others of their column."""

    def __init__(self, message: str):
        super().__init__(printable(message))


def listing(items: Sequence[Any]) -> str:
    """The first items for a message, and their number if these are not all."""
    shown = ", ".join(str(item) for item in items[:_LISTED])
    return shown + (f", … ({len(items)} in all)" if len(items) > _LISTED else "")


def unknown(kind: str, name: Any, known: Iterable[str]) -> str:
    """The message for an unknown name, with the nearest known one."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
    return f"unknown {kind} {name!r}: {hint}"


def is_number(value: Any) -> bool:
    """Whether this is a real number of Python or NumPy; booleans are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def whole(name: str, value: Any, least: int = 1) -> int:
    """The value as an int. **Raises:** `InputError` unless it is whole and at least `least`."""
    if not (is_number(value) and isinstance(value, Integral) and int(value) >= least):
        raise _unfit(name, value, f"a whole number, at least {least}")
    return int(value)


def check_counts(**options: Any) -> None:
    """Raises `InputError` for an option that is neither None nor a whole number above 0."""
    for name, value in options.items():
        if value is not None:
            whole(name, value)


def check_positive(**options: Any) -> None:
    """Raises `InputError` for an option that is neither None nor a positive, finite number."""
    for name, value in options.items():
        if value is not None and not (is_number(value) and 0 < value < math.inf):
            raise _unfit(name, value, "a number, positive and finite")


def check_not_negative(**options: Any) -> None:
    """Raises `InputError` for an option that is neither None nor a finite number ≥ 0."""
    for name, value in options.items():
        if value is not None and not (is_number(value) and 0 <= value < math.inf):
            raise _unfit(name, value, "a number, finite and not negative")


def check_fraction(**options: Any) -> None:
    """Raises `InputError` for an option that is not a number in [0, 1)."""
    for name, value in options.items():
        if not (is_number(value) and 0 <= value < 1):
            raise _unfit(name, value, "a number, at least 0 and below 1")


def _unfit(name: str, value: Any, kind: str) -> InputError:
    shown = repr(value) if isinstance(value, str) else value
    return InputError(f"{name} {shown}: must be {kind}")


def check_seed(seed: int) -> None:
    """Raises `InputError` for a seed outside [0, 2³²), the range of distinct keys."""
    if not 0 <= seed < 2**32:
        raise InputError(f"seed {seed}: must be between 0 and {2**32 - 1}")
