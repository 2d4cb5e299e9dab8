r"""Derivatives of a log-density in the units of the data.

With z = T(x), J = ∂T/∂x, and g, H the gradient and the Hessian of log p(z),

    ∇ log p(x) = Jᵀ g + ∇ log |det J|,
    ∇² log p(x) v = Jᵀ H J v + Σ_k g_k ∇²T_k v + ∇² log |det J| v.

T is differentiated in float64, because a column may be 1.7e9 ± 1 or have the scale 1e60. In
standardised coordinates everything is of order one, and g and H u are evaluated in float32.

There are two fields g. At t = 0 it is the gradient of the ODE's log-density, the one that
`log_likelihood` reports. At t > 0 it is the network's estimate of ∇ log q_t. Near t = 0 the two
differ much: with little noise, the data hardly constrain the network's score, and the ODE hardly
depends on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar
from scoreode.calculus import AbstractProbe, ProbeDraw
from scoreode.flow import (
    Given,
    GridLikelihood,
    draw_probes,
    map_rows,
    mean_and_error,
    rows_at_once,
    tangents,
)
from scoreode.flow.parallel import LEAST_CHUNK
from scoreode.model.standardise import Chain
from scoreode.score import ScoreModel

_AT_ONCE = 64  # tangents of a row evaluated together
_PROBES = 1  # the seed of a trace's probes, which must be independent of the likelihood's

Rows = Float[np.ndarray, "n d"]
Vectors = Float[np.ndarray, "n k d"]
Conditions = Float[np.ndarray, "n k"] | None
Vector = Float[Array, " d"]


class NetworkScore(eqx.Module):
    """g = s_θ(z, t), the network's estimate of ∇ log q_t(z). **Cost:** one evaluation."""

    t: Scalar

    def __call__(self, score: ScoreModel, z: Vector) -> Vector:
        return score(z, self.t)

    def tangents(self, d: int) -> int:  # noqa: ARG002 (it has no divergence)
        """The number of tangents per evaluation, without those for derivatives of g."""
        return 0


class ODEScore(eqx.Module):
    """g = ∇ log p_0(z) of the ODE's density, by a reverse sweep over its likelihood.

    **Cost:** twice the likelihood's evaluations, 4 `n_steps` + 4, half of them with tangents, and a
    reverse sweep over each.
    """

    likelihood: GridLikelihood
    key: PRNGKeyArray

    def __call__(self, score: ScoreModel, z: Vector) -> Vector:
        # Without recomputation the memory grows with the number of steps.
        likelihood = replace(self.likelihood, recompute=True)
        return jax.grad(lambda z: likelihood(score, score.process, self.key, z).nats)(z)

    def tangents(self, d: int) -> int:
        """The number of tangents per evaluation, without those for derivatives of g."""
        return tangents(self.likelihood.probe, self.likelihood.n_probes, d)


Field = NetworkScore | ODEScore
Groups = Sequence[tuple[Field, np.ndarray]]
"""Fields g, each with the indices of its rows."""


class _Products(eqx.Module):
    """g and (∇g) u at one row, for every u."""

    field: Field

    def __call__(
        self, score: ScoreModel, z: Vector, U: Float[Array, "k d"]
    ) -> tuple[Vector, Float[Array, "k d"]]:
        def along(u: Vector) -> tuple[Vector, Vector]:
            return jax.jvp(lambda z: self.field(score, z), (z,), (u,))

        at_once = max(_AT_ONCE // (1 + self.field.tangents(z.size)), 1)
        g, products = lax.map(along, U, batch_size=at_once)
        return g[0], products


@dataclass(frozen=True)
class LogDensity:
    """The derivatives of log p at rows x, in the units of the data."""

    score_model: ScoreModel
    bijection: Chain
    groups: Groups
    x: Rows
    z: Rows
    c: Conditions
    """The standardised conditions of the rows, in float64."""

    def gradient(self) -> Rows:
        """∇ log p(x)."""
        g = self._evaluate(lambda field: field, 0)
        return self._in_float64(_pullback, 0, g)

    def hessian_products(self, V: Vectors) -> Vectors:
        """∇² log p(x) v for k vectors v of every row."""
        k = V.shape[1]
        U, length = self._in_float64(_pushforward, k, V)
        g, HU = self._evaluate(_Products, k, U)
        return self._in_float64(_hessian_products, k, g, V, HU, length)

    def laplacian(self, probe: AbstractProbe, n: int) -> tuple[np.ndarray, np.ndarray]:
        """tr ∇² log p(x) by n probes, and its standard error."""
        chunk = rows_at_once(self.z.shape[1], n)
        draw = map_rows(_draw, (probe, n, jr.key(_PROBES)), (self.z,), chunk)
        V = draw.vectors.astype(np.float64)
        terms = np.sum(V * self.hessian_products(V), -1)
        with jax.enable_x64(True):
            value, stderr = jax.vmap(mean_and_error)(
                jnp.asarray(terms.sum(1, keepdims=True) if probe.exact else terms), draw
            )
        return np.asarray(value), np.asarray(stderr)

    def _evaluate(self, function: Callable[[Field], Callable], k: int, *rows: np.ndarray) -> Any:
        """`function(field)` of the score, z and these rows, for every group's field and rows."""
        c = None if self.c is None else self.c.astype(np.float32)
        rows, d, parts = (self.z, *rows), self.z.shape[1], []
        for field, index in self.groups:
            chunk = rows_at_once(d, (1 + k) * (1 + field.tangents(d)) - 1)
            group = *(array[index] for array in rows), None if c is None else c[index]
            # Reverse sweeps take memory.
            shared, size = (self.score_model,), min(chunk, LEAST_CHUNK)
            parts.append(map_rows(Given(function(field)), shared, group, size))
        order = np.argsort(np.concatenate([index for _, index in self.groups]))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *parts)

    def _in_float64(self, function: Callable, k: int, *rows: np.ndarray) -> Any:
        """`function` of the bijection, x and these rows, with k tangents."""
        arrays = (array.astype(np.float64) for array in rows)
        with jax.enable_x64(True):
            chunk = rows_at_once(self.x.shape[1], k)
            return map_rows(function, (self.bijection,), (self.x, *arrays, self.c), chunk)


def _draw(probe: AbstractProbe, n: int, key: PRNGKeyArray, z: Vector) -> ProbeDraw:
    return draw_probes(probe, n, key, z)[1]


def _forward(bijection: Chain, c: Array | None) -> Callable[[Vector], tuple[Vector, Scalar]]:
    def forward(x: Vector) -> tuple[Vector, Scalar]:
        z, log_det = bijection.forward(x, c)
        return jnp.asarray(z), jnp.asarray(log_det)

    return forward


def _pullback(bijection: Chain, x: Vector, g: Vector, c: Array | None) -> Vector:
    """Jᵀ g + ∇ log |det J|."""
    (_, log_det), pull = jax.vjp(_forward(bijection, c), x)
    return pull((g, jnp.ones_like(log_det)))[0]


def _pushforward(
    bijection: Chain, x: Vector, V: Float[Array, "k d"], c: Array | None
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """u = J v / ‖J v‖_∞ of every v in float32, and ‖J v‖_∞, which may be out of its range."""
    _, push = jax.linearize(lambda x: _forward(bijection, c)(x)[0], x)
    U = jax.vmap(push)(V)
    length = jnp.max(jnp.abs(U), axis=1)
    U = U / jnp.where(length > 0, length, 1)[:, None]
    return U.astype(jnp.float32), length


def _hessian_products(
    bijection: Chain,
    x: Vector,
    g: Vector,
    V: Float[Array, "k d"],
    HU: Float[Array, "k d"],
    length: Float[Array, " k"],
    c: Array | None,
) -> Float[Array, "k d"]:
    """∇² log p(x) v of every v, from H u of its u."""
    _, pull = jax.vjp(lambda x: _forward(bijection, c)(x)[0], x)
    curvature = jax.linearize(lambda x: _pullback(bijection, x, g, c), x)[1]
    return jax.vmap(lambda v, Hu, length: length * pull(Hu)[0] + curvature(v))(V, HU, length)
