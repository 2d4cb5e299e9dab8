r"""Consistency checks of a score model that need no ground truth.

The Jacobian of a true score is symmetric, because a score is a gradient. A true score also equals
m = ∇log p_t^ODE, the score of its own ODE's density. Neither holds for a network. J_Diff, by which
the KL of the ODE exceeds the part that score matching controls, is an integral over
(s − ∇log q)ᵀ (m − s); here its second factor is evaluated. Round trips, forward and back, show how
much of the discrepancies comes from the solver.
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
    """Means over rows at times t; both quantities are dimensionless."""

    t: Float[np.ndarray, " times"]
    asymmetry: Estimate
    """‖∇s − ∇sᵀ‖_F / ‖∇s‖_F."""
    own_score: Estimate
    """‖σ (m − s)‖² / d."""
    unconverged: int


class RoundTrip(eqx.Module):
    """Errors of solving from x_0 to T and back, as means over rows."""

    distance: Estimate
    """The distance between x_0 and the result of the round trip."""
    log_density: Estimate
    """|log p_0 by the forward solve − log p_0 by the augmented ODE|, in nats."""


def consistency(
    score: ScoreFunction,
    process: AbstractProcess,
    x_0: Float[np.ndarray, "n d"],
    times: Float[np.ndarray, " times"],
    key: PRNGKeyArray,
    solver: Solver = Solver(),
    c: Float[np.ndarray, "n k"] | None = None,
) -> Consistency:
    """The asymmetry of ∇s, and the distance of s from the score m of its own ODE, at x_t.

    **Arguments:** `x_0`, rows (n, d); `times` in [t_min, T]; `key` of the noise; `c`, the rows'
    conditions.

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
        return Estimate.from_samples(values.reshape(len(times), n).T)

    return Consistency(times, over_rows(asymmetry), over_rows(own), int(np.sum(~converged)))


def _at(
    score: ScoreFunction,
    process: AbstractProcess,
    ode: AugmentedODE,
    t: Scalar,
    x_0: Vector,
    eps: Vector,
) -> tuple[Scalar, Scalar, Array]:
    x = process.diffuse(x_0, eps, t)
    A = jax.jacfwd(score)(x, t)
    p = ode(score, process, x, t)
    asymmetry = jnp.linalg.norm(A - A.T) / jnp.linalg.norm(A)
    own = process.sigma(t) ** 2 * jnp.mean((p.score - score(x, t)) ** 2)
    return asymmetry, own, p.converged


def round_trip(
    score: ScoreFunction,
    process: AbstractProcess,
    x_0: Float[np.ndarray, "n d"],
    solver: Solver = Solver(),
    c: Float[np.ndarray, "n k"] | None = None,
) -> RoundTrip:
    """The disagreement of forward and backward solves, for rows x_0 (n, d) with conditions c."""
    forward = map_rows(Given(Likelihood(solver=solver)), (score, process, jr.key(0)), (x_0, c))
    rows = x_0, forward.latent, c
    distance, log_density = map_rows(Given(_back), (score, process, solver), rows)
    return RoundTrip(
        Estimate.from_samples(distance), Estimate.from_samples(np.abs(log_density - forward.nats))
    )


def _back(
    score: ScoreFunction, process: AbstractProcess, solver: Solver, x_0: Vector, x_T: Vector
) -> tuple[Scalar, Scalar]:
    back = ODESampler(solver).from_latent(score, process, x_T)
    t_min = jnp.asarray(process.t_min, x_0.dtype)
    p_0 = AugmentedODE(solver)(score, process, x_0, t_min)
    return jnp.linalg.norm(back - x_0), p_0.log_density
