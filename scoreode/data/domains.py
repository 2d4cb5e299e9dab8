"""Domains of columns: between bounds, or on a circle."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Interval:
    """Values between `low` and `high`; None for no bound."""

    low: float | None
    high: float | None

    @property
    def ends(self) -> tuple[float, float]:
        """Both bounds, infinite where there is none."""
        low = -math.inf if self.low is None else self.low
        return low, math.inf if self.high is None else self.high

    @property
    def limits(self) -> tuple[float, float, float, float]:
        """Both bounds, and no period."""
        return *self.ends, 0.0, 0.0

    def __str__(self) -> str:
        low, high = ("" if end is None else f"{end:.10g}" for end in (self.low, self.high))
        return f"{low}:{high}"


@dataclass(frozen=True)
class Circle:
    """Angles: x and x + `period` are the same point. Samples are in [start, start + period), where
    the rows decide `start` (None: not yet)."""

    period: float
    start: float | None = None

    @property
    def limits(self) -> tuple[float, float, float, float]:
        """No bounds, the period and where it starts."""
        return -math.inf, math.inf, self.period, self.start or 0.0

    def __str__(self) -> str:
        return f"{self.period:.10g}"


Domain = Interval | Circle
Support = Mapping[str, Domain]
"""The domains of the columns that have a declared one, by name."""
NO_SUPPORT: Support = {}


def to_json(support: Support) -> dict[str, Any]:
    """The fields of every domain by column."""
    return {name: asdict(domain) for name, domain in support.items()}


def from_json(document: Mapping[str, Any]) -> Support:
    """What `to_json` wrote. **Raises:** `TypeError` for anything else."""
    return {
        name: Circle(**fields) if "period" in fields else Interval(**fields)
        for name, fields in document.items()
    }


def as_declared(support: Support) -> dict[str, dict[str, Any] | None]:
    """The bounds and the periods that declare a support; None where there are none."""
    bounds = {name: (d.low, d.high) for name, d in support.items() if isinstance(d, Interval)}
    period = {name: d.period for name, d in support.items() if isinstance(d, Circle)}
    return {"bounds": bounds or None, "period": period or None}


def circles(columns: Sequence[str], support: Support) -> np.ndarray:
    """Which of the columns are angles, bool (d,)."""
    return np.array([isinstance(support.get(name), Circle) for name in columns], bool)


def limits(columns: Sequence[str], support: Support) -> np.ndarray:
    """low, high, period and start of every column, (4, d): infinite without a bound, and a period
    of 0 where there is none."""
    nothing = Interval(None, None)
    found = [support.get(name, nothing).limits for name in columns]
    return np.array(found).reshape(len(columns), 4).T
