r"""What a score model betrays about itself, where the truth is not known.

A score is a gradient, so its Jacobian is symmetric; and if s were the score of the density that its
own ODE carries, it would be m = ∇log p_t^ODE. Neither holds for a network, and J_Diff, by which the
KL of the ODE exceeds what score matching controls, is an integral over (s − ∇log q)ᵀ (m − s): its
second factor is measured here. Solves there and back say what of all this is the solver's.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar, ScoreFunction
from scoreode.flow import Given, Likelihood, ODESampler, Solver, map_rows
from scoreode.process import AbstractProcess
from scoreode.theory.estimate import Estimate
from scoreode.theory.model_score import AugmentedODE

Vector = Float[Array, " d"]


class Consistency(eqx.Module):
    """At times t, means over rows; σ makes them free of units."""

    t: Float[np.ndarray, " times"]
    asymmetry: Estimate
    """‖∇s − ∇sᵀ‖_F / ‖∇s‖_F."""
    own_score: Estimate
    """‖σ (m − s)‖² / d."""
    unconverged: int


class RoundTrip(eqx.Module):
    """Of x_0 carried to T and back."""

    distance: Estimate
    """‖x_0 − back‖."""
    log_density: Estimate
    """|log p_0 carried forward − log p_0 carried back|, in nats."""


def consistency(
    score: ScoreFunction,
    process: AbstractProcess,
    x_0: Float[np.ndarray, "n d"],
    times: Float[np.ndarray, " times"],
    key: PRNGKeyArray,
    solver: Solver = Solver(),
    c: Float[np.ndarray, "n k"] | None = None,
) -> Consistency:
    """Asymmetry of ∇s, and the distance of s from the score m of its own ODE, at x_t.

    **Arguments:** `c`, what the rows are conditioned on.

    **Cost:** a solve of the augmented ODE for every row and time, with d tangents.
    """
    n = len(x_0)
    rows = (
        np.repeat(times, n),
        np.tile(x_0, (len(times), 1)),
        np.asarray(jr.normal(key, (n * len(times), x_0.shape[1]), x_0.dtype)),
        None if c is None else np.tile(c, (len(times), 1)),
    )
    asymmetry, own, converged = map_rows(Given(_at), (score, process, AugmentedODE(solver)), rows)

    def over_rows(values: Any) -> Estimate:
        return Estimate.of(values.reshape(len(times), n).T)

    return Consistency(times, over_rows(asymmetry), over_rows(own), int(np.sum(~converged)))


def _at(
    score: ScoreFunction,
    process: AbstractProcess,
    how: AugmentedODE,
    t: Scalar,
    x_0: Vector,
    eps: Vector,
) -> tuple[Scalar, Scalar, Array]:
    x = process.diffuse(x_0, eps, t)
    A = jax.jacfwd(score)(x, t)
    found = how(score, process, x, t)
    asymmetry = jnp.linalg.norm(A - A.T) / jnp.linalg.norm(A)
    own = process.sigma(t) ** 2 * jnp.mean((found.score - score(x, t)) ** 2)
    return asymmetry, own, found.converged


def round_trip(
    score: ScoreFunction,
    process: AbstractProcess,
    x_0: Float[np.ndarray, "n d"],
    solver: Solver = Solver(),
    c: Float[np.ndarray, "n k"] | None = None,
) -> RoundTrip:
    """What forward and backward solves disagree by, at every row, conditioned on its c."""
    forward = map_rows(Given(Likelihood(solver=solver)), (score, process, jr.key(0)), (x_0, c))
    rows = x_0, forward.latent, c
    distance, log_density = map_rows(Given(_back), (score, process, solver), rows)
    return RoundTrip(Estimate.of(distance), Estimate.of(np.abs(log_density - forward.nats)))


def _back(
    score: ScoreFunction, process: AbstractProcess, solver: Solver, x_0: Vector, x_T: Vector
) -> tuple[Scalar, Scalar]:
    back = ODESampler(solver).from_latent(score, process, x_T)
    t_min = jnp.asarray(process.t_min, x_0.dtype)
    carried = AugmentedODE(solver)(score, process, x_0, t_min)
    return jnp.linalg.norm(back - x_0), carried.log_density
