r"""Gaussian mixtures: their diffused densities and scores in closed form, for any linear process.

If x_0 ~ Σ_k π_k N(μ_k, Σ_k) then x_t ~ Σ_k π_k N(α μ_k, C_k), C_k = α² Σ_k + σ² I. With the
responsibilities r_k(x) and u_k = −C_k⁻¹ (x − α μ_k), the components' scores,

    ∇log q     = Σ r_k u_k                                                   =: s
    ∇²log q    = Σ r_k (u_k u_kᵀ − C_k⁻¹) − s sᵀ                             =: H
    ∇tr ∇²log q = Σ r_k [(‖u_k‖² − tr C_k⁻¹)(u_k − s) − 2 C_k⁻¹ u_k] − 2 H s.

A `MixtureOracle` is a `ScoreFunction`: it can replace a network anywhere. The posterior of x_0
given x_t = x is again a mixture, with weights r_k(x) and

    means μ_k − α Σ_k u_k,    covariances σ² Σ_k C_k⁻¹.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar
from scoreode.flow import map_rows
from scoreode.process import AbstractProcess

Vector = Float[Array, " d"]


class _Components(eqx.Module):
    """Responsibilities, component scores u_k and precisions C_k⁻¹ at one (x, t)."""

    r: Float[Array, " k"]
    u: Float[Array, "k d"]
    precision: Float[Array, "k d d"]
    log_density: Scalar


class Posterior(eqx.Module):
    """q(x_0 | x_t), a Gaussian mixture."""

    weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    covariances: Float[Array, "k d d"]

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """n draws of x_0 given x_t."""
        return _sample(key, n, self.weights, self.means, self.covariances)


class MixtureOracle(eqx.Module):
    """The marginals q_t of a Gaussian mixture under a process: sampler, density, derivatives.

    **Arguments:** `process`; `weights` (k,), whose sum is 1; `means` (k, d); `covariances`
    (k, d, d).
    """

    process: AbstractProcess
    weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    covariances: Float[Array, "k d d"]
    # Σ_k = Q Λ Qᵀ, computed once: C_k has the same eigenvectors at every t and needs no inverse.
    Lambda: Float[Array, "k d"]
    Q: Float[Array, "k d d"]

    def __init__(
        self,
        process: AbstractProcess,
        weights: Float[Array, " k"],
        means: Float[Array, "k d"],
        covariances: Float[Array, "k d d"],
    ):
        self.process, self.weights, self.means = process, weights, means
        self.covariances = covariances
        self.Lambda, self.Q = jnp.linalg.eigh(covariances)

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """n draws of x_0."""
        return _sample(key, n, self.weights, self.means, self.covariances)

    def from_noise(self, u: Scalar, z: Vector, t: Scalar) -> Vector:
        """x_t ~ q_t from a uniform u, which selects the component, and standard normals z (d,)."""
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        k = jnp.sum(u > jnp.cumsum(self.weights)[:-1])
        scale = jnp.sqrt(alpha**2 * self.Lambda[k] + sigma**2)
        return alpha * self.means[k] + self.Q[k] @ (scale * z)

    def _components(self, x: Vector, t: Scalar) -> _Components:
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        variances = alpha**2 * self.Lambda + sigma**2
        precision = jnp.einsum("kij,kj,klj->kil", self.Q, 1 / variances, self.Q)
        centred = x - alpha * self.means
        u = -jnp.einsum("kij,kj->ki", precision, centred)
        log_components = (
            jnp.log(self.weights)
            + 0.5 * jnp.sum(u * centred, 1)
            - 0.5 * jnp.sum(jnp.log(variances), 1)
            - 0.5 * x.size * jnp.log(2 * jnp.pi).astype(x.dtype)
        )
        r = jax.nn.softmax(log_components)
        return _Components(r, u, precision, jax.nn.logsumexp(log_components))

    def log_density(self, x: Vector, t: Scalar) -> Scalar:
        """log q_t(x) in nats."""
        return self._components(x, t).log_density

    def __call__(self, x: Vector, t: Scalar) -> Vector:
        """∇log q_t(x), shape (d,)."""
        c = self._components(x, t)
        return c.r @ c.u

    def hessian(self, x: Vector, t: Scalar) -> Float[Array, "d d"]:
        """∇²log q_t(x), shape (d, d)."""
        c = self._components(x, t)
        s = c.r @ c.u
        second = jnp.einsum("ki,kj->kij", c.u, c.u) - c.precision
        return jnp.einsum("k,kij->ij", c.r, second) - jnp.outer(s, s)

    def grad_trace_hessian(self, x: Vector, t: Scalar) -> Vector:
        """∇tr ∇²log q_t(x), shape (d,)."""
        c = self._components(x, t)
        s = c.r @ c.u
        excess = jnp.sum(c.u**2, 1) - jnp.trace(c.precision, axis1=1, axis2=2)
        within = excess[:, None] * (c.u - s) - 2 * jnp.einsum("kij,kj->ki", c.precision, c.u)
        return c.r @ within - 2 * self.hessian(x, t) @ s

    def posterior(self, x: Vector, t: Scalar) -> Posterior:
        """q(x_0 | x_t = x)."""
        c = self._components(x, t)
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        means = self.means - alpha * jnp.einsum("kij,kj->ki", self.covariances, c.u)
        return Posterior(c.r, means, sigma**2 * self.covariances @ c.precision)


def log_q_0(oracle: MixtureOracle, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """log q at t_min for rows (n, d), in nats."""
    t = np.full(len(x), oracle.process.t_min, x.dtype)
    return np.asarray(map_rows(MixtureOracle.log_density, (oracle,), (x, t)), np.float64)


def _sample(
    key: PRNGKeyArray,
    n: int,
    weights: Float[Array, " k"],
    means: Float[Array, "k d"],
    covariances: Float[Array, "k d d"],
) -> Float[Array, "n d"]:
    key_k, key_x = jr.split(key)
    k = jr.choice(key_k, weights.size, (n,), p=weights)
    noise = jr.normal(key_x, (n, means.shape[1]), means.dtype)
    factors = jnp.linalg.cholesky(covariances)
    return means[k] + jnp.einsum("nij,nj->ni", factors[k], noise)
