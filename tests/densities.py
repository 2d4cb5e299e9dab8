"""Densities of the toys, written down independently of their samplers.

Each is a mixture of many product kernels along curves: A_k(x) B_k(y), so that a grid of values is
one matrix product. Midpoints of a uniform parameter make the mixture exact to quadrature error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

MIDPOINTS = 1500


@dataclass(frozen=True)
class Product:
    """p(x, y) = mean_k kernel(x − a_k) kernel(y − b_k), on the square [−half, half]²."""

    centres: np.ndarray
    kernel: Callable[[np.ndarray], np.ndarray]
    half: float = 5.5

    def on_grid(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """p on the product of two axes."""
        A, B = (
            self.kernel(axis[:, None] - c) for axis, c in zip((x, y), self.centres.T, strict=True)
        )
        return A @ B.T / len(self.centres)


def normal(scale: float) -> Callable[[np.ndarray], np.ndarray]:
    """N(0, scale²)."""
    return lambda x: np.exp(-0.5 * (x / scale) ** 2) / (scale * np.sqrt(2 * np.pi))


def smeared_box(width: float, scale: float) -> Callable[[np.ndarray], np.ndarray]:
    """Centred U(−width/2, width/2) + N(0, scale²)."""
    half = width / 2
    return lambda x: (special.ndtr((x + half) / scale) - special.ndtr((x - half) / scale)) / width


def polar(radius: np.ndarray | float, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def midpoints(n: int = MIDPOINTS) -> np.ndarray:
    return (np.arange(n) + 0.5) / n


def circles(radii: tuple[float, ...], scale: float) -> Product:
    angle = 2 * np.pi * midpoints(400)
    return Product(np.concatenate([polar(r, angle) for r in radii]), normal(scale))


def moons() -> Product:
    upper = polar(1, np.pi * midpoints())
    lower = np.array([1, 0.5]) - upper
    return Product(2 * np.concatenate([upper, lower]) - [1, 0.2], normal(0.2))


def swiss_roll() -> Product:
    angle = 1.5 * np.pi * (1 + 2 * midpoints())
    return Product(polar(angle, angle) / 5, normal(1 / 5))


def two_spirals() -> Product:
    """Arms (−θ cos θ, θ sin θ)/3 with θ = 3π√u, thickened by a box of side 1/6; both signs."""
    angle = 3 * np.pi * np.sqrt(midpoints())
    arm = polar(angle, angle) * [-1, 1] / 3 + 0.25 / 3
    return Product(np.concatenate([arm, -arm]), smeared_box(0.5 / 3, 0.1))


def eight_gaussians() -> Product:
    return Product(polar(4, np.arange(8) * np.pi / 4) / 1.414, normal(0.5 / 1.414))


class Line:
    """The paper's mixture, in one dimension."""

    half = 2.0

    def on_grid(self, x: np.ndarray) -> np.ndarray:
        return self(x[:, None])

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        means, variances = np.array([-2, -6, 4]) / 7, np.array([0.1, 0.1, 1]) / 49
        return sum(
            w * normal(np.sqrt(v))(rows[:, 0] - m)
            for w, m, v in zip([0.3, 0.3, 0.4], means, variances, strict=True)
        )


class Board:
    """1/32 on the dark squares."""

    half = 4.0

    def on_grid(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self(np.stack(np.meshgrid(x, y, indexing="ij"), 2).reshape(-1, 2)).reshape(
            len(x), len(y)
        )

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        i, j = np.floor(rows / 2).astype(int).T
        inside = np.all(np.abs(rows) <= 4, 1)
        return np.where(inside & ((i + j) % 2 == 0), 1 / 32, 0.0)


DENSITIES: Mapping[str, Callable[[], Product | Line | Board]] = {
    "mixture": Line,
    "checkerboard": Board,
    "8gaussians": eight_gaussians,
    "moons": moons,
    "circles": lambda: circles((3, 1.5), 0.24),
    "rings": lambda: circles((3, 2.25, 1.5, 0.75), 0.08),
    "swissroll": swiss_roll,
    "2spirals": two_spirals,
}
