r"""Declared supports: bijections from intervals, half-lines and circles onto ℝ, column by column.

A density of a share, a price or an angle must not reach beyond 0, 1 or a turn. So the columns are
first mapped onto ℝ, where a diffusion lives, and all that follows is in these coordinates.

- an interval, and a circle that is cut where the rows are rarest: z = Φ⁻¹(u) of the part u that
  lies below. A uniform law becomes normal, and a law that grows like a power of the distance from
  a bound gets a normal tail, which a diffusion learns with least effort. (A logit would give
  exponential tails.)
- a half-line: z = log(e^v − 1) of v, the distance from the bound over a scale. Near the bound it is
  a logarithm, and far out linear, so that a light tail stays light. Each column has the scale under
  which it is most like a normal law. A wide one makes it a plain logarithm.
- no bound: z = x.
"""

import math
from dataclasses import replace
from typing import Any, Self

import equinox as eqx
import numpy as np

from scoreode.model.standardise.affine import deviation
from scoreode.model.standardise.bijection import AbstractBijection, Array
from scoreode.model.standardise.maps import Heavy, Normal

_SCALES = (*2.0 ** np.arange(-4, 7), 1e6)  # of a half-line, in medians of the distance
_EDGE = 2.0**-30  # of a turn: nearer to the cut an angle has the density at this distance


class Support(AbstractBijection):
    """z = T(x) from a box onto ℝᵈ, column by column; missing values (NaN) stay missing.

    `low` and `high` are infinite where there is no bound. Where `period` is above 0, they are the
    two sides of the cut of a circle, and x comes back from [start, start + period). A `heavy` one
    is for laws with tails like Student's t, which in z would be infinite at every bound.
    """

    low: np.ndarray
    high: np.ndarray
    scale: np.ndarray
    period: np.ndarray
    start: np.ndarray
    heavy: bool = eqx.field(static=True, default=False)

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        """That of rows without bounds."""
        return cls.identity(x.shape[1])

    @classmethod
    def identity(cls, d: int) -> Self:
        inf, zero = np.full(d, np.inf), np.zeros(d)
        return cls(-inf, inf, np.ones(d), zero, zero)

    @classmethod
    def within(
        cls,
        low: np.ndarray,
        high: np.ndarray,
        period: np.ndarray,
        start: np.ndarray,
        x: np.ndarray,
    ) -> Self:
        """The support with these bounds and periods (0 for none), each of shape (d,), cut and
        scaled by rows x (n, d) inside."""
        low, high, scale = low.copy(), high.copy(), np.ones(len(low))
        for j, column in enumerate(x.T):
            column = column[~np.isnan(column)]
            if period[j] > 0:
                low[j] = _cut(column, period[j])
                high[j] = low[j] + period[j]
            elif np.isfinite(low[j]) != np.isfinite(high[j]):
                scale[j] = _scale(column - low[j] if np.isfinite(low[j]) else high[j] - column)
        return cls(low, high, scale, period, start)

    def forward(self, x: Array) -> tuple[Array, Array]:
        z, log_slopes = self.columns(x)
        return z, x.__array_namespace__().sum(log_slopes, axis=-1)

    def columns(self, x: Array) -> tuple[Array, Array]:
        """z and log |dz/dx| of every value, both (..., d): −∞ outside, 0 of a missing value."""
        xp = x.__array_namespace__()
        low, high, scale, period, _ = self._like(x)
        circle, below, above = period > 0, xp.isfinite(low), xp.isfinite(high)
        low, high = xp.where(below, low, 0.0), xp.where(above, high, 0.0)
        turn = xp.where(circle, period, 1.0)
        angle = xp.clip(xp.mod(x - low, turn), _EDGE * turn, (1 - _EDGE) * turn)
        a = xp.where(circle, angle, x - low)
        b = xp.where(circle, turn - angle, high - x)
        outside = (below & (a <= 0)) | (above & (b <= 0))
        both, one = below & above, below != above
        # What a map does not apply to gets a harmless value, so that its gradient is finite.
        width = xp.where(both, high - low, 1.0)
        u = xp.where(both & ~outside, xp.minimum(a, b) / width, 0.5)
        v = xp.where(one & ~outside, xp.where(below, a, b) / scale, 1.0)
        (q, log_q), (y, log_y) = self._maps.interval(u), self._maps.half_line(v)
        interval, half_line = xp.where(a < b, q, -q), xp.where(below, y, -y)
        z = xp.where(both, interval, xp.where(one, half_line, x))
        log_q, log_y = log_q - xp.log(width), log_y - xp.log(scale)
        slope = xp.where(both, log_q, xp.where(one, log_y, 0.0))
        slope = xp.where(xp.isnan(x), 0.0, slope)
        return z, xp.where(outside, -xp.inf, slope)

    def inverse(self, z: Array) -> Array:
        xp = z.__array_namespace__()
        low, high, scale, period, start = self._like(z)
        circle, below, above = period > 0, xp.isfinite(low), xp.isfinite(high)
        low, high = xp.where(below, low, 0.0), xp.where(above, high, 0.0)
        both, one = below & above, below != above
        width = xp.where(both, high - low, 1.0)
        part = width * self._maps.part(-xp.abs(xp.where(both, z, 0.0)))
        interval = xp.where(z < 0, low + part, high - part)
        distance = scale * self._maps.distance(xp.where(one, xp.where(below, z, -z), 0.0))
        half_line = xp.where(below, low + distance, high - distance)
        x = xp.where(both, interval, xp.where(one, half_line, z))
        x = xp.clip(x, *_inner(low, high, below & ~circle, above & ~circle, x.dtype, xp))
        return xp.where(circle, _wrap(x, period, start), x)

    def with_heavy_tails(self, x: np.ndarray) -> Self:
        """The same for laws with tails like Student's t, scaled by rows x (n, d) inside."""
        nearest = np.minimum(np.abs(x - self.low), np.abs(self.high - x))
        one = np.isfinite(self.low) != np.isfinite(self.high)
        scale = np.where(one, np.nanmedian(np.where(one, nearest, 1.0), 0), 1.0)
        return replace(self, scale=scale, heavy=True)

    @property
    def _maps(self) -> type[Normal | Heavy]:
        return Heavy if self.heavy else Normal

    def _like(self, x: Array) -> list[Array]:
        """All arrays with the type of x: JAX takes float64 of the host for float32 without it."""
        xp = x.__array_namespace__()
        arrays = self.low, self.high, self.scale, self.period, self.start
        return [xp.asarray(array, x.dtype) for array in arrays]


def _inner(low: Array, high: Array, below: Array, above: Array, dtype: Any, xp: Any) -> tuple:
    """The least and the greatest number of a type strictly inside; infinite without a bound."""
    tiny, inf = float(np.finfo(dtype).tiny), xp.asarray(xp.inf, dtype)
    low, high = xp.asarray(low, dtype), xp.asarray(high, dtype)
    least = xp.maximum(xp.nextafter(low, inf), low + tiny)
    most = xp.minimum(xp.nextafter(high, -inf), high - tiny)
    return xp.where(below, least, -inf), xp.where(above, most, inf)


def _wrap(x: Array, period: Array, start: Array) -> Array:
    """The same angles in [start, start + period); x where the period is 0."""
    xp = x.__array_namespace__()
    turn = xp.where(period > 0, period, 1.0)
    angle = start + xp.mod(x - start, turn)
    return xp.where(period > 0, xp.where(angle >= start + turn, start, angle), x)


def _cut(angles: np.ndarray, period: float) -> float:
    """The middle of the widest gap between neighbours where √n of them lie furthest apart."""
    ordered = np.sort(np.mod(angles, period))
    m = math.isqrt(len(ordered))
    around = np.concatenate([ordered, ordered[:m] + period])
    first = int(np.argmax(around[m:] - around[:-m]))
    rare = around[first : first + m + 1]
    gap = int(np.argmax(np.diff(rare)))
    return float(rare[gap] + rare[gap + 1]) / 2


def _scale(distance: np.ndarray) -> float:
    """That with the greatest likelihood of one normal law in z."""
    median = float(np.median(distance))
    scales = median * np.array(_SCALES)
    zero = np.zeros(len(scales))
    candidates = Support(zero, zero + np.inf, scales, zero, zero)
    z, log_slopes = map(np.asarray, candidates.columns(distance[:, None] + zero))
    return float(scales[np.argmax(log_slopes.mean(0) - np.log(deviation(z)))])
