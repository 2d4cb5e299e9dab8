r"""Theorem 1, measured: the KL divergence of a ScoreODE, term by term.

With q_t the mixture's marginals, p_t those of the ScoreODE, s its score and m = ∇log p_t,

    KL(q_0 ‖ p_0) = KL(q_T ‖ p_T) + J_ODE,    J_ODE = J_SM + J_Diff,

    J_SM     = ½ ∫ g² E_q ‖s − ∇log q‖² dt
    J_Diff   = ½ ∫ g² E_q (s − ∇log q)ᵀ (m − s) dt
    J_Fisher = ½ ∫ g² E_q ‖m − ∇log q‖² dt = ½ ∫ g² D_F(q_t ‖ p_t) dt.

From there J_ODE ≤ √(J_SM J_Fisher), by Cauchy and Schwarz, while for the ScoreSDE
KL(q_0 ‖ p_0^SDE) ≤ KL(q_T ‖ p_T) + J_SM. Time 0 is t_min on both sides, which makes all this exact.

As g² dt = −σ² dλ in the log-SNR λ, the integrals are over λ, drawn from a density that a pilot
finds: piecewise constant, as the root mean square of J_ODE's integrand. The pilot is not reused, so
all is unbiased. The left side is the plain mean of log q/p, over more draws, as they are cheaper.
Adding a multiple of p/q − 1, of mean zero, would cut its spread, and be wrong: what p puts where q
has nothing is never drawn, and that can be as much as the KL of a good model.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy.special import ndtri

from scoreode._typing import Scalar, ScoreFunction
from scoreode.calculus import Basis
from scoreode.flow import Likelihood, Solver, map_rows
from scoreode.theory.estimate import Estimate, spread_points
from scoreode.theory.model_score import AugmentedODE
from scoreode.theory.oracle import MixtureOracle

SHIFTS = 16
PILOT = 512
LEFT = 8  # draws of x_0 for every draw of (t, x_t)
BINS = 32
CHUNK = 512
NONE = 1e-30  # what is divided by where the score is exact, and every integrand zero
Host = Float[np.ndarray, "..."]


class Errors(eqx.Module):
    """At one (t, x_t): what the integrals are of, in nats per unit of g² t; σ² and g²."""

    score_matching: Float[Any, "..."]
    """‖s − ∇log q‖²."""
    difference: Float[Any, "..."]
    """(s − ∇log q)ᵀ (m − s)."""
    fisher: Float[Any, "..."]
    """‖m − ∇log q‖²."""
    sigma2: Float[Any, "..."]
    g2: Float[Any, "..."]
    converged: Bool[Any, "..."]


class Integrals(eqx.Module):
    """The integrals over time, in nats, from `n` draws of (t, x_t)."""

    SM: Estimate
    Diff: Estimate
    ODE: Estimate
    Fisher: Estimate
    root: Estimate
    """√(J_SM J_Fisher)."""
    n: int
    unconverged: int
    """Draws whose solve failed; with any, nothing here is to be trusted."""


class Theorem1(eqx.Module):
    """Both sides of Theorem 1 in nats, the left from 8 `J.n` draws of x_0."""

    kl_0: Estimate
    kl_T: Estimate
    J: Integrals

    @property
    def difference(self) -> Estimate:
        """KL(q_0 ‖ p_0) − KL(q_T ‖ p_T) − J_ODE: zero, says the theorem."""
        return self.kl_0 - (self.kl_T + self.J.ODE)

    @property
    def cauchy_schwarz(self) -> Estimate:
        """KL(q_T ‖ p_T) + √(J_SM J_Fisher), which KL(q_0 ‖ p_0^ODE) cannot exceed."""
        return self.kl_T + self.J.root

    @property
    def sde_bound(self) -> Estimate:
        """KL(q_T ‖ p_T) + J_SM, which KL(q_0 ‖ p_0^SDE) cannot exceed."""
        return self.kl_T + self.J.SM


class Curves(eqx.Module):
    """Over times t: D_F(q_t ‖ p_t), ℓ_Fisher = ½ g² D_F and ℓ_SM = ½ g² E‖s − ∇log q‖².

    Their time integrals are J_Fisher and J_SM.
    """

    t: Host
    D_F: Estimate
    fisher: Estimate
    score_matching: Estimate


def theorem_1(
    oracle: MixtureOracle,
    score: ScoreFunction,
    key: PRNGKeyArray,
    n: int = 16_384,
    solver: Solver = Solver(),
) -> Theorem1:
    """Every term of Theorem 1 for data of the oracle's mixture and the ScoreODE of a score.

    The right side takes n draws of (t, x_t), the left 8 n of x_0, each evenly spread under 16
    shifts, over which the standard errors are. The solver's error is not in them: where they are
    to be small, work in float64.

    **Cost:** that of `integrals`, and 8 n solves without third derivatives.
    """
    key_0, key_T, key_t = jr.split(key, 3)
    shared = oracle, score, Likelihood(Basis(), solver=solver)

    def kl(function: Any, shared: tuple, key: PRNGKeyArray) -> Estimate:
        draws = _points(key, SHIFTS, LEFT * n // SHIFTS, oracle)
        log_ratio = map_rows(function, shared, _noise(draws), CHUNK)
        return Estimate.of(log_ratio.astype(np.float64).reshape(SHIFTS, -1).mean(1))

    kl_0 = kl(_log_ratio_0, shared, key_0)
    kl_T = kl(_log_ratio_T, (oracle,), key_T)
    return Theorem1(kl_0, kl_T, integrals(oracle, score, key_t, n, solver))


def integrals(
    oracle: MixtureOracle,
    score: ScoreFunction,
    key: PRNGKeyArray,
    n: int = 16_384,
    solver: Solver = Solver(),
) -> Integrals:
    """J_SM, J_Diff, J_ODE and J_Fisher: the right side of Theorem 1 and its bound, alone.

    **Cost:** n solves with third derivatives, and a pilot's 512.
    """
    key_t, key_pilot = jr.split(key)
    J_SM, J_Diff, J_Fisher, unconverged = _over_shifts(oracle, score, solver, key_t, key_pilot, n)
    S, F = J_SM.mean(), J_Fisher.mean()
    # The tangent of √(S F) at the means has their value there, and its error.
    root = 0.5 * (np.sqrt(F / (S + NONE)) * J_SM + np.sqrt(S / (F + NONE)) * J_Fisher)
    of = Estimate.of
    J = of(J_SM), of(J_Diff), of(J_SM + J_Diff), of(J_Fisher), of(root)
    return Integrals(*J, n // SHIFTS * SHIFTS, unconverged)


def curves(
    oracle: MixtureOracle,
    score: ScoreFunction,
    times: Host,
    key: PRNGKeyArray,
    n: int = 1024,
    solver: Solver = Solver(),
) -> Curves:
    """The error of the score and of the model score over time, from n draws of x_t at each.

    **Cost:** n solves with third derivatives for every time.
    """
    u, z = _noise(_points(key, SHIFTS, n // SHIFTS, oracle))
    t = np.repeat(times, len(u))
    rows = t, np.tile(u, len(times)), np.tile(z, (len(times), 1))
    errors = map_rows(_errors, (oracle, score, AugmentedODE(solver)), rows, CHUNK)

    def mean(values: Host) -> Estimate:
        return Estimate.of(values.reshape(len(times), SHIFTS, -1).mean(2).T)

    return Curves(
        times,
        mean(errors.fisher),
        mean(0.5 * errors.g2 * errors.fisher),
        mean(0.5 * errors.g2 * errors.score_matching),
    )


def _points(key: PRNGKeyArray, shifts: int, n: int, oracle: MixtureOracle, more: int = 0) -> Host:
    return spread_points(key, shifts, n, 1 + oracle.means.shape[1] + more)


def _noise(points: Host) -> tuple[Host, Host]:
    """Rows of what `from_noise` takes: uniforms (n,) and normals (n, d)."""
    rows = points.reshape(-1, points.shape[-1])
    return rows[:, 0], ndtri(rows[:, 1:])


def _log_ratio_0(
    oracle: MixtureOracle, score: ScoreFunction, how: Likelihood, u: Scalar, z: Array
) -> Scalar:
    """log q_0 − log p_0 at a draw of q_0; nan where the solve failed."""
    process, t = oracle.process, jnp.asarray(oracle.process.t_min, z.dtype)
    x = oracle.from_noise(u, z, t)
    found = how(score, process, jr.key(0), x)
    return jnp.where(found.converged, oracle.log_density(x, t) - found.nats, jnp.nan)


def _log_ratio_T(oracle: MixtureOracle, u: Scalar, z: Array) -> Scalar:
    """log q_T − log p_T at a draw of q_T."""
    process, T = oracle.process, jnp.asarray(oracle.process.t_max, z.dtype)
    x = oracle.from_noise(u, z, T)
    return oracle.log_density(x, T) - process.prior_log_density(x)


def _errors(
    oracle: MixtureOracle,
    score: ScoreFunction,
    how: AugmentedODE,
    t: Scalar,
    u: Scalar,
    z: Array,
) -> Errors:
    process, x = oracle.process, oracle.from_noise(u, z, t)
    found = how(score, process, x, t)
    s, truth = score(x, t), oracle(x, t)
    return Errors(
        jnp.sum((s - truth) ** 2),
        jnp.vdot(s - truth, found.score - s),
        jnp.sum((found.score - truth) ** 2),
        process.sigma(t) ** 2,
        process.g2(t),
        found.converged,
    )


@eqx.filter_jit
def _times(oracle: MixtureOracle, log_snr: Array) -> Array:
    return jax.vmap(oracle.process.t_of_log_snr)(log_snr)


def _over_shifts(
    oracle: MixtureOracle,
    score: ScoreFunction,
    solver: Solver,
    key: PRNGKeyArray,
    key_pilot: PRNGKeyArray,
    n: int,
) -> tuple[Host, Host, Host, int]:
    """J_SM, J_Diff and J_Fisher for every shift; how many solves failed."""
    low, high = (float(log_snr) for log_snr in oracle.process.log_snr_range())
    edges = np.linspace(low, high, BINS + 1)

    def drawn(points: Host, mass: Host) -> tuple[Errors, Host]:
        """Errors with λ drawn from the bins' masses, and ½ σ² over the density of λ."""
        u = points.reshape(-1, points.shape[-1])[:, -1]
        log_snr = np.interp(u, np.append(0, np.cumsum(mass)), edges)
        density = mass[_bin(log_snr, edges)] / np.diff(edges)[0]
        rows = np.asarray(_times(oracle, jnp.asarray(log_snr))), *_noise(points[..., :-1])
        errors = map_rows(_errors, (oracle, score, AugmentedODE(solver)), rows, CHUNK)
        return errors, 0.5 * errors.sigma2 / density

    uniform = np.full(BINS, 1 / BINS)
    points = _points(key_pilot, 1, PILOT, oracle, more=1)
    errors, weight = drawn(points, uniform)
    square = (weight * (errors.score_matching + errors.difference)) ** 2
    in_bin = _bin(np.interp(points[0, :, -1], [0, 1], edges[[0, -1]]), edges)
    rms = np.sqrt(np.bincount(in_bin, square, BINS) / np.bincount(in_bin, minlength=BINS))
    # A tenth stays uniform: what the pilot did not see keeps a bounded weight.
    mass = 0.9 * (rms + NONE) / np.sum(rms + NONE) + 0.1 * uniform
    errors, weight = drawn(_points(key, SHIFTS, n // SHIFTS, oracle, more=1), mass)

    def shift_means(values: Host) -> Host:
        return np.mean((weight * values).astype(np.float64).reshape(SHIFTS, -1), 1)

    return (
        shift_means(errors.score_matching),
        shift_means(errors.difference),
        shift_means(errors.fisher),
        int(np.sum(~errors.converged)),
    )


def _bin(log_snr: Host, edges: Host) -> np.ndarray:
    return np.clip(np.searchsorted(edges, log_snr) - 1, 0, BINS - 1)
