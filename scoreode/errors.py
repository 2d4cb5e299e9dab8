"""The two ways in which a call can end badly; a message names what is wrong and the remedy."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

INSTALL_ALL = "pip install 'scoreode[all]'"
_LISTED = 10  # names or numbers in a message before "…"


class InputError(ValueError):
    """The caller gave something that cannot be used (exit status 2)."""


class FailureError(RuntimeError):
    """The work itself failed: a disk is full, training diverged (exit status 1)."""


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
