"""Numbers and names as a report writes them."""

import math
from collections.abc import Sized

from scoreode.evaluate.runs import Subject

NONE = "—"


def value(number: float | None, form: str) -> str:
    """A number, with a minus as wide as a plus; a dash where there is none, or NaN."""
    return NONE if number is None or math.isnan(number) else f"{number:{form}}".replace("-", "−")


def plus_minus(number: float | None, stderr: float | None) -> str:
    """A number and its standard error, as `scoreode nll` prints them."""
    shown = value(number, ".4f")
    return shown if number is None or stderr is None else f"{shown} ± {stderr:.4f}"


def of(subject: Subject, found: Sized) -> str:
    """Of which run something is, where there are several."""
    return f", {subject.label}" if len(found) > 1 else ""
