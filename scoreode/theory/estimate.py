r"""Expectations by randomised quasi-Monte Carlo, with standard errors.

The error of a mean over n independent draws is of order n^(−1/2). With points that fill the unit
cube evenly it is nearly of order 1/n, for a smooth integrand. If all points are shifted by one
uniform vector, modulo 1, each of them is uniform. So every shift gives an unbiased mean, and the
spread over a few shifts gives its standard error.
"""

import math

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray

Values = float | Float[np.ndarray, "..."]


class Estimate(eqx.Module):
    """A value and its standard error: two numbers or two arrays.

    Sums and differences assume independent terms.
    """

    value: Values
    stderr: Values

    @classmethod
    def from_samples(cls, samples: ArrayLike) -> "Estimate":
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
        difference = self - (other if isinstance(other, Estimate) else Estimate(other, 0.0))
        return difference.value / difference.stderr

    def agrees(self, other: "Estimate | float", within: float = 3.0) -> bool:
        """Whether all values are within this many standard errors of the other's."""
        return bool(np.all(np.abs(self.z(other)) <= within))

    def __str__(self) -> str:
        if np.ndim(self.value):
            pairs = zip(np.ravel(self.value), np.ravel(self.stderr), strict=True)
            return ", ".join(str(Estimate(*pair)) for pair in pairs)
        if not (math.isfinite(self.stderr) and self.stderr > 0):
            return f"{self.value:g} ± {self.stderr:g}"
        # Round first: 0.00996 becomes 0.01, which needs two decimals, not three.
        decimals = max(0, -math.floor(math.log10(float(f"{self.stderr:.0e}"))))
        return f"{self.value:.{decimals}f} ± {self.stderr:.{decimals}f}"


def spread_points(
    key: PRNGKeyArray, shifts: int, n: int, d: int
) -> Float[np.ndarray, "shifts n d"]:
    """n evenly spread points of the unit cube, for each of several independent uniform shifts.

    (i a + shift) mod 1 with a_j = φ⁻ʲ, where φ^(d+1) = φ + 1 (Roberts 2018), for any n and d.
    """
    phi = 2.0
    for _ in range(64):
        phi = (1 + phi) ** (1 / (d + 1))
    steps = np.arange(n)[:, None] * phi ** -np.arange(1.0, d + 1)
    shift = np.asarray(jr.uniform(key, (shifts, 1, d)), np.float64)
    # Keep off the cube's faces, where the normal quantile is infinite.
    return np.clip((steps + shift) % 1, 1e-12, 1 - 1e-12)
