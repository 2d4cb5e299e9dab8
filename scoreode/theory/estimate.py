r"""Expectations by evenly spread random points, with standard errors.

A mean over n independent draws errs by n^(−1/2). Points that fill the cube evenly err by nearly
1/n where the integrand is smooth, and shifted as a whole by a uniform vector each of them is still
uniform: so every shift gives an unbiased mean, and the spread over a few shifts is its error.
"""

import math

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray

Values = float | Float[np.ndarray, "..."]


class Estimate(eqx.Module):
    """A value and its standard error, of one number or of an array of them.

    Sums and differences take the terms to be independent.
    """

    value: Values
    stderr: Values

    @classmethod
    def of(cls, samples: ArrayLike) -> "Estimate":
        """The mean of independent samples over the first axis."""
        samples = np.asarray(samples, np.float64)
        return cls(samples.mean(0), samples.std(0, ddof=1) / len(samples) ** 0.5)

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value + other.value, np.hypot(self.stderr, other.stderr))

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value - other.value, np.hypot(self.stderr, other.stderr))

    def __rmul__(self, factor: Values) -> "Estimate":
        return Estimate(factor * self.value, np.abs(factor) * self.stderr)

    def z(self, other: "Estimate | float" = 0.0) -> Values:
        """(self − other) / standard error of the difference."""
        gap = self - (other if isinstance(other, Estimate) else Estimate(other, 0.0))
        return gap.value / gap.stderr

    def agrees(self, other: "Estimate | float", within: float = 3.0) -> bool:
        """Nowhere further from the other than `within` standard errors."""
        return bool(np.all(np.abs(self.z(other)) <= within))

    def __str__(self) -> str:
        if np.ndim(self.value):
            pairs = zip(np.ravel(self.value), np.ravel(self.stderr), strict=True)
            return ", ".join(str(Estimate(*pair)) for pair in pairs)
        if not (math.isfinite(self.stderr) and self.stderr > 0):
            return f"{self.value:g} ± {self.stderr:g}"
        # Rounded first: 0.00996 is 0.01, which needs two decimals and not three.
        decimals = max(0, -math.floor(math.log10(float(f"{self.stderr:.0e}"))))
        return f"{self.value:.{decimals}f} ± {self.stderr:.{decimals}f}"


def spread_points(
    key: PRNGKeyArray, shifts: int, n: int, d: int
) -> Float[np.ndarray, "shifts n d"]:
    """n evenly spread points of the unit cube, under so many independent uniform shifts.

    (i a + shift) mod 1 with a_j = φ⁻ʲ, where φ^(d+1) = φ + 1 (Roberts 2018): any n, any d.
    """
    phi = 2.0
    for _ in range(64):
        phi = (1 + phi) ** (1 / (d + 1))
    steps = np.arange(n)[:, None] * phi ** -np.arange(1.0, d + 1)
    shift = np.asarray(jr.uniform(key, (shifts, 1, d)), np.float64)
    # Off the cube's faces, where a normal's quantile is infinite.
    return np.clip((steps + shift) % 1, 1e-12, 1 - 1e-12)
