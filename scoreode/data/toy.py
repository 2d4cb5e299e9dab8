"""Toy densities with exact samplers and known entropies.

These are the paper's 1-D mixture and checkerboard, and FFJORD's 2-D toys at FFJORD's scalings
(Grathwohl et al. 2019). The entropy H of a distribution is the best possible NLL, so NLL − H on new
points *is* KL(q_0 ‖ p_0). Entropies are in nats: in closed form for the checkerboard, otherwise by
quadrature of the density, which the tests repeat.

To add one, write a final class with `dim`, `entropy` and the sampler, and add it to `TOYS` in
`data/sources.py`.
"""

import abc
import math
from typing import TYPE_CHECKING, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

if TYPE_CHECKING:
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar


class AbstractToy(eqx.Module):
    """A distribution with an exact sampler: `toy(key, n)` are n draws, shape (n, dim)."""

    dim: AbstractClassVar[int]
    entropy: AbstractClassVar[float]

    @abc.abstractmethod
    def __call__(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]: ...


class AbstractMixture(AbstractToy):
    """A Gaussian mixture; its density is known in closed form at every noise level."""

    @abc.abstractmethod
    def components(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights (k,), means (k, d), covariances (k, d, d)."""

    def __call__(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        key_k, key_x = jr.split(key)
        weights, means, covariances = self.components()
        k = jr.choice(key_k, len(weights), (n,), p=jnp.asarray(weights))
        noise = jr.normal(key_x, (n, self.dim))
        factors = jnp.asarray(np.linalg.cholesky(covariances))
        return jnp.asarray(means)[k] + jnp.einsum("nij,nj->ni", factors[k], noise)


class Mixture(AbstractMixture):
    """The paper's 1-D mixture of three Gaussians."""

    dim = 1
    entropy: ClassVar[float] = -0.12885

    def components(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        means, variances = np.array([-2.0, -6.0, 4.0]) / 7, np.array([0.1, 0.1, 1.0]) / 49
        return np.array([0.3, 0.3, 0.4]), means[:, None], variances[:, None, None]


class Checkerboard(AbstractToy):
    """Uniform on the eight dark 2 × 2 squares of a 4 × 4 board on [−4, 4]²."""

    dim = 2
    entropy: ClassVar[float] = math.log(32)

    def __call__(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        key_x, key_y, key_row = jr.split(key, 3)
        x = jr.uniform(key_x, (n,), minval=-2.0, maxval=2.0)
        y = jr.uniform(key_y, (n,)) - 2.0 * jr.randint(key_row, (n,), 0, 2)
        return 2 * jnp.stack([x, y + jnp.floor(x) % 2], axis=1)


class EightGaussians(AbstractMixture):
    """Eight normals of scale 0.5 on a circle of radius 4, all divided by 1.414."""

    dim = 2
    entropy: ClassVar[float] = 2.8319

    def components(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        angle = np.arange(8) * np.pi / 4
        centres = 4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        covariance = np.eye(2) * (0.5 / 1.414) ** 2
        return np.full(8, 1 / 8), centres / 1.414, np.broadcast_to(covariance, (8, 2, 2))


class Moons(AbstractToy):
    """Two interleaved half circles with noise."""

    dim = 2
    entropy: ClassVar[float] = 2.3939

    def __call__(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        key_side, key_angle, key_x = jr.split(key, 3)
        upper = _circle(jr.uniform(key_angle, (n,), maxval=jnp.pi))
        lower = jnp.array([1.0, 0.5]) - upper
        moon = jnp.where(jr.bernoulli(key_side, shape=(n, 1)), upper, lower)
        return 2 * moon + jnp.array([-1.0, -0.2]) + 0.2 * jr.normal(key_x, (n, 2))


class Circles(AbstractToy):
    """Two concentric circles of radii 3 and 1.5 with noise."""

    dim = 2
    entropy: ClassVar[float] = 3.2681

    def __call__(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        return _rings(key, n, jnp.array([3.0, 1.5]), 0.24)


class Rings(AbstractToy):
    """Four concentric circles of radii 3, 2.25, 1.5, 0.75 with little noise."""

    dim = 2
    entropy: ClassVar[float] = 2.6232

    def __call__(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        return _rings(key, n, jnp.array([3.0, 2.25, 1.5, 0.75]), 0.08)


class SwissRoll(AbstractToy):
    """A spiral of one and a half turns with noise."""

    dim = 2
    entropy: ClassVar[float] = 2.6696

    def __call__(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        key_angle, key_x = jr.split(key)
        angle = 1.5 * jnp.pi * (1 + 2 * jr.uniform(key_angle, (n,)))
        roll = angle[:, None] * _circle(angle)
        return (roll + jr.normal(key_x, (n, 2))) / 5


class TwoSpirals(AbstractToy):
    """Two opposite spirals, with uniform and normal noise."""

    dim = 2
    entropy: ClassVar[float] = 2.6454

    def __call__(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        key_angle, key_box, key_side, key_x = jr.split(key, 4)
        angle = 3 * jnp.pi * jnp.sqrt(jr.uniform(key_angle, (n,)))
        arm = angle[:, None] * jnp.array([-1.0, 1.0]) * _circle(angle)
        arm = (arm + jr.uniform(key_box, (n, 2), maxval=0.5)) / 3
        return jr.rademacher(key_side, (n, 1), arm.dtype) * arm + 0.1 * jr.normal(key_x, (n, 2))


def _circle(angle: Float[Array, " n"]) -> Float[Array, "n 2"]:
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)


def _rings(
    key: PRNGKeyArray, n: int, radii: Float[Array, " k"], noise: float
) -> Float[Array, "n 2"]:
    key_r, key_angle, key_x = jr.split(key, 3)
    radius = jr.choice(key_r, radii, (n, 1))
    angle = jr.uniform(key_angle, (n,), maxval=2 * jnp.pi)
    return radius * _circle(angle) + noise * jr.normal(key_x, (n, 2))
