r"""The steps of a discrete diffusion (Ho et al. 2020), as a curve in log-SNR.

Betas give ᾱ_i = Π_{j ≤ i} (1 − β_j) at the steps i = 0 … n − 1, hence the log-SNR
λ_i = log ᾱ_i / (1 − ᾱ_i). Between the steps λ is the cubic spline through all (i, λ_i),
"not-a-knot" at its ends: it is λ_i at i, has two continuous derivatives, and is checked to fall
strictly. Processes and networks both need this curve, one of them in each direction.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from scoreode._typing import Scalar

SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
_LARGEST = 0.999  # β of the cosine
_OFFSET = 0.008


@dataclass(frozen=True)
class Steps:
    """n steps, with β by the name of a schedule of the diffusers package.

    **Arguments:** `schedule`, "linear" from `beta_0` to `beta_1`, "scaled_linear", with √β linear,
    or "squaredcos_cap_v2", ᾱ = cos² (Nichol & Dhariwal 2021), for which both are nothing; `n`.

    **Raises:** `ValueError` for an unknown schedule, for betas outside (0, 1), for fewer than two
    steps, and where the spline does not fall.
    """

    schedule: str = "linear"
    n: int = 1000
    beta_0: float = 1e-4
    beta_1: float = 0.02

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule {self.schedule!r}: {', '.join(SCHEDULES)} are known")
        if self.n < 2 or not 0 < self.beta_0 <= self.beta_1 < 1:
            raise ValueError(f"{self}: needs two steps or more, and 0 < beta_0 ≤ beta_1 < 1")
        slope, square, cubic = self._cubics[1]
        # The derivative is largest at the ends of an interval or at its vertex.
        vertex = np.clip(np.divide(-square, 3 * cubic, out=0 * cubic, where=cubic != 0), 0, 1)
        largest = [slope + f * (2 * square + 3 * f * cubic) for f in (0, vertex, 1)]
        if not np.max(largest) < 0:
            raise ValueError(f"{self}: the spline through its log-SNRs does not fall everywhere")

    def alpha_bar(self) -> np.ndarray:
        """ᾱ_i, shape (n,), in float64."""
        return np.cumprod(1 - self._betas())

    def _betas(self) -> np.ndarray:
        if self.schedule == "linear":
            return np.linspace(self.beta_0, self.beta_1, self.n)
        if self.schedule == "scaled_linear":
            return np.linspace(math.sqrt(self.beta_0), math.sqrt(self.beta_1), self.n) ** 2
        s = np.arange(self.n + 1) / self.n
        curve = np.cos((s + _OFFSET) / (1 + _OFFSET) * np.pi / 2) ** 2
        return np.minimum(1 - curve[1:] / curve[:-1], _LARGEST)

    @cached_property
    def _cubics(self) -> tuple[np.ndarray, np.ndarray]:
        """λ_i, and the coefficients of f, f², f³ from step i on, shape (3, n − 1)."""
        log_alpha_bar = np.cumsum(np.log1p(-self._betas()))
        log_snr = log_alpha_bar - np.log(-np.expm1(log_alpha_bar))
        cubic, square, slope, _ = CubicSpline(np.arange(self.n), log_snr).c
        return log_snr, np.stack([slope, square, cubic])

    def log_snr(self, index: Scalar) -> Scalar:
        """λ at a step in [0, n − 1], whole or not."""
        i = jnp.clip(jnp.floor(jax.lax.stop_gradient(index)), 0, self.n - 2)
        return self._within(i, index - i)

    def _within(self, i: Scalar, f: Scalar) -> Scalar:
        """λ at i + f."""
        values, coefficients = (jnp.asarray(part, f.dtype) for part in self._cubics)
        i = i.astype(int)
        slope, square, cubic = coefficients[:, i]
        return values[i] + f * (slope + f * (square + f * cubic))

    def index(self, log_snr: Scalar) -> Scalar:
        """The step with this λ, clipped to [0, n − 1]; differentiable.

        Bisection finds f in [0, 1] after the last step that is not below. One Newton step then
        gives the derivative 1 / (dλ/di).
        """
        values = jnp.asarray(self._cubics[0], log_snr.dtype)
        target = jax.lax.stop_gradient(log_snr)
        i = jnp.clip(jnp.searchsorted(-values, -target, side="right") - 1, 0, self.n - 2)
        i = i.astype(log_snr.dtype)

        def halve(_: int, bracket: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
            low, high = bracket
            mid = (low + high) / 2
            too_early = self._within(i, mid) > target
            return jnp.where(too_early, mid, low), jnp.where(too_early, high, mid)

        ends = jnp.zeros_like(target), jnp.ones_like(target)
        low, high = jax.lax.fori_loop(0, jnp.finfo(log_snr.dtype).nmant + 2, halve, ends)
        f = (low + high) / 2
        found, rate = jax.value_and_grad(lambda f: self._within(i, f))(f)
        f, found, rate = jax.lax.stop_gradient((f, found, rate))
        return jnp.clip(i + f + (log_snr - found) / rate, 0, self.n - 1)
