r"""Consistency checks of a score model that need no ground truth.

The Jacobian of a true score is symmetric, because a score is a gradient. A true score also equals
m = ∇log p_t^ODE, the score of its own ODE's density. Neither holds for a network. J_Diff, by which
the KL of the ODE exceeds the part that score matching controls, is an integral over
(s − ∇log q)ᵀ (m − s); here its second factor is evaluated. Round trips, forward and back, show how
much of the discrepancies comes from the solver.

Up to 32 dimensions all derivatives are exact. Above, random probes estimate the divergence, and
with it m. Two independent estimates m₁, m₂ have E (m₁ − s)ᵀ (m₂ − s) = ‖m − s‖², without the
variance of the probes.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar, ScoreFunction
from scoreode.calculus import Rademacher
from scoreode.flow import (
    DEFAULT_PROBES,
    Given,
    Likelihood,
    Solver,
    draw_probes,
    map_rows,
    rows_at_once,
    tangents,
)
from scoreode.process import AbstractProcess
from scoreode.theory.estimate import Estimate
from scoreode.theory.model_score import AugmentedODE, LikelihoodGradient

Vector = Float[Array, " d"]


class Consistency(eqx.Module):
    """Means over rows at times t; both quantities are dimensionless."""

    t: Float[np.ndarray, " times"]
    asymmetry: Estimate
    """‖∇s − ∇sᵀ‖_F / ‖∇s‖_F; 0 where ∇s is."""
    own_score: Estimate
    """‖σ (m − s)‖² / d; above 32 dimensions an unbiased estimate, which may be below 0."""
    unconverged: int


class RoundTrip(eqx.Module):
    """Errors of solving from x_0 to T and back, as means over rows."""

    distance: Estimate
    """The distance between x_0 and the result of the round trip."""
    log_density: Estimate
    """|log p_0 by the solve to T − log p_0 by the solve back|, in nats, with the same probes."""


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

    **Arguments:** `x_0`, rows (n, d); `times` in [t_min, T]; `key` of the noise and the probes;
    `c`, the rows' conditions.

    **Cost:** a solve for every row and time: of the augmented ODE, with d tangents; above 32
    dimensions two of the likelihood with one tangent, and reverse sweeps over them. For the
    asymmetry d tangents and d reverse sweeps, or 16.
    """
    n, d = x_0.shape
    rows = (
        np.repeat(times, n),
        np.tile(x_0, (len(times), 1)),
        np.asarray(jr.normal(key, (n * len(times), d), x_0.dtype)),
        jr.split(jr.fold_in(key, 1), n * len(times)),
        None if c is None else np.tile(c, (len(times), 1)),
    )
    shared = score, process, solver
    asymmetry, own, converged = map_rows(Given(_at), shared, rows, _chunk(score, d))

    def over_rows(values: Any) -> Estimate:
        return Estimate.from_samples(values.reshape(len(times), n).T)

    return Consistency(times, over_rows(asymmetry), over_rows(own), int(np.sum(~converged)))


def _chunk(score: ScoreFunction, d: int) -> int:
    return rows_at_once(d, tangents(None, DEFAULT_PROBES, d), getattr(score, "hidden_size", 0))


def _at(
    score: ScoreFunction,
    process: AbstractProcess,
    solver: Solver,
    t: Scalar,
    x_0: Vector,
    eps: Vector,
    key: PRNGKeyArray,
) -> tuple[Scalar, Scalar, Array]:
    x = process.diffuse(x_0, eps, t)
    probe, probes = draw_probes(None, DEFAULT_PROBES, key, x)
    s, push = jax.linearize(lambda x: score(x, t), x)
    _, pull = jax.vjp(lambda x: score(x, t), x)
    Av, ATv = jax.vmap(lambda v: (push(v), *pull(v)))(probes.vectors)
    size = jnp.linalg.norm(Av)
    asymmetry = jnp.linalg.norm(Av - ATv) / jnp.where(size > 0, size, 1)
    if probe.exact:
        p = AugmentedODE(solver)(score, process, x, t)
        m = jnp.stack([p.score, p.score])
    else:
        how = LikelihoodGradient(solver, Rademacher())
        p = jax.vmap(lambda key: how(score, process, x, t, key))(jr.split(key))
        m = p.score
    own = process.sigma(t) ** 2 * jnp.mean((m[0] - s) * (m[1] - s))
    return asymmetry, own, jnp.all(p.converged)


def round_trip(
    score: ScoreFunction,
    process: AbstractProcess,
    x_0: Float[np.ndarray, "n d"],
    solver: Solver = Solver(),
    c: Float[np.ndarray, "n k"] | None = None,
) -> RoundTrip:
    """The disagreement of the solves from x_0 to T and back, for rows (n, d) with conditions c.

    **Cost:** two likelihoods a row by an adaptive solver.
    """
    likelihood, chunk = Likelihood(solver=solver), _chunk(score, x_0.shape[1])
    shared = score, process, likelihood
    distance, log_density = map_rows(Given(_there_and_back), shared, (x_0, c), chunk)
    return RoundTrip(Estimate.from_samples(distance), Estimate.from_samples(log_density))


def _there_and_back(
    score: ScoreFunction, process: AbstractProcess, likelihood: Likelihood, x_0: Vector
) -> tuple[Scalar, Scalar]:
    key = jr.key(0)
    there = likelihood(score, process, key, x_0)
    x, back = likelihood.sample(score, process, key, jnp.asarray(there.latent), like=x_0)
    return jnp.linalg.norm(x - x_0), jnp.abs(back.nats - there.nats)
