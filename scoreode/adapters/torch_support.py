"""The declared support of a density for PyTorch: which values it has, and how to move inside."""

# Where PyTorch is not installed, the type checker takes `torch.py` for it.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

import math
from typing import Any

import torch
from torch.distributions import biject_to, constraints
from torch.distributions.transforms import Transform

from scoreode.model.standardise import Support

Tensor = Any


class Inside(constraints.Constraint):
    """Vectors whose columns lie between their bounds, and angles in their one turn."""

    event_dim = 1

    def __init__(self, support: Support):
        bounds = support.low, support.high, support.period, support.start
        self.columns = [_column(*map(float, each)) for each in zip(*bounds, strict=True)]

    def check(self, value: Tensor) -> Tensor:
        """Whether each of the vectors (..., d) is inside, shape (...)."""
        pairs = zip(self.columns, value.unbind(-1), strict=True)
        return torch.stack([column.check(x) for column, x in pairs], -1).all(-1)


class IntoSupport(Transform):
    """From ℝᵈ into a declared support, column by column as PyTorch maps intervals."""

    bijective = True
    domain = constraints.real_vector

    def __init__(self, inside: Inside, cache_size: int = 0):
        super().__init__(cache_size=cache_size)
        self.codomain = inside
        self._columns = [biject_to(column) for column in inside.columns]

    def with_cache(self, cache_size: int = 1) -> "IntoSupport":
        return IntoSupport(self.codomain, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        pairs = zip(self._columns, x.unbind(-1), strict=True)
        return torch.stack([column(x) for column, x in pairs], -1)

    def _inverse(self, y: Tensor) -> Tensor:
        pairs = zip(self._columns, y.unbind(-1), strict=True)
        return torch.stack([column.inv(y) for column, y in pairs], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        triples = zip(self._columns, x.unbind(-1), y.unbind(-1), strict=True)
        slopes = [column.log_abs_det_jacobian(x, y) for column, x, y in triples]
        return torch.stack(slopes, -1).sum(-1)


biject_to.register(Inside, IntoSupport)


def _column(low: float, high: float, period: float, start: float) -> Any:
    """PyTorch's constraint of one column."""
    if period > 0:
        return constraints.half_open_interval(start, start + period)
    match math.isfinite(low), math.isfinite(high):
        case True, True:
            return constraints.interval(low, high)
        case True, False:
            return constraints.greater_than(low)
        case False, True:
            return constraints.less_than(high)
    return constraints.real
