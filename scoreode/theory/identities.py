r"""Theorem 1, measured: the KL divergence of a ScoreODE, term by term.

With q_t the mixture's marginals, p_t those of the ScoreODE, s its score and m = ∇log p_t,

    KL(q_0 ‖ p_0) = KL(q_T ‖ p_T) + J_ODE,    J_ODE = J_SM + J_Diff,

    J_SM     = ½ ∫ g² E_q ‖s − ∇log q‖² dt
    J_Diff   = ½ ∫ g² E_q (s − ∇log q)ᵀ (m − s) dt
    J_Fisher = ½ ∫ g² E_q ‖m − ∇log q‖² dt = ½ ∫ g² D_F(q_t ‖ p_t) dt.

From there J_ODE ≤ √(J_SM J_Fisher), by Cauchy and Schwarz, while for the ScoreSDE
KL(q_0 ‖ p_0^SDE) ≤ KL(q_T ‖ p_T) + J_SM. Time 0 is t_min on both sides, which makes all this exact.

Means are over x_0 drawn half from q_0 and half from p_0, so that nothing is missed that either of
them has. With ρ = q_0/p_0 a draw stands for 2/(1 + ρ) of p_0's and for 2ρ/(1 + ρ) of q_0's, so

    KL(q_0 ‖ p_0) = E [2 (ρ log ρ − ρ + 1) / (1 + ρ)],

whose terms are of the order of the KL, where log ρ is of the order of its root. The ScoreODE
carries every draw from T to t_min, with p_t and m; draws of p_0 pass x_t with the density p_t, so

    J = E [2/(1 + ρ) ∫ ½ g² (q_t/p_t) (…) dt],

a whole integral over time for every path. The two sides take different draws.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy.special import ndtri

from scoreode._typing import Scalar, ScoreFunction
from scoreode.calculus import Basis
from scoreode.flow import Likelihood, LogLikelihood, Solver, map_rows, scales, standard_velocity
from scoreode.theory.estimate import Estimate, spread_points
from scoreode.theory.model_score import AugmentedODE
from scoreode.theory.oracle import MixtureOracle

SHIFTS = 16
LEFT = 4  # draws on the left for every one on the right
CHUNK = 512
LARGEST = 30.0  # of log q_t/p_t, so that nothing overflows
Host = Float[np.ndarray, "..."]


class Integrals(eqx.Module):
    """The integrals over time, in nats, along `n` paths."""

    SM: Estimate
    Diff: Estimate
    ODE: Estimate
    Fisher: Estimate
    root: Estimate
    """√(J_SM J_Fisher)."""
    n: int
    unconverged: int
    """Paths whose solve failed; with any, nothing here is to be trusted."""


class Theorem1(eqx.Module):
    """Both sides of Theorem 1 in nats, the left from 4 `J.n` draws of x_0."""

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

    The right side takes n draws of x_0, the left 4 n, evenly spread under 16 shifts, over which the
    standard errors are. The solver's error is not in them: where they are to be small, work in
    float64.

    **Cost:** that of `integrals`, and 4 n solves without third derivatives.
    """
    key_q, key_p, key_T, key_J = jr.split(key, 4)
    half, shared = LEFT * n // 2, (oracle, score, Likelihood(Basis(), solver=solver))
    under_q = map_rows(_divergence_under_q, shared, _noise(key_q, half, oracle), CHUNK)
    under_p = map_rows(_divergence_under_p, shared, _noise(key_p, half, oracle), CHUNK)
    under_T = map_rows(_log_ratio_T, (oracle,), _noise(key_T, 2 * half, oracle), CHUNK)
    kl_0 = 0.5 * (_mean(under_q) + _mean(under_p))
    return Theorem1(kl_0, _mean(under_T), integrals(oracle, score, key_J, n, solver))


def integrals(
    oracle: MixtureOracle,
    score: ScoreFunction,
    key: PRNGKeyArray,
    n: int = 16_384,
    solver: Solver = Solver(),
) -> Integrals:
    """J_SM, J_Diff, J_ODE and J_Fisher: the right side of Theorem 1 and its bound, alone.

    **Cost:** n paths with third derivatives, and n/2 without.
    """
    key_q, key_p = jr.split(key)
    of_q = map_rows(_latent, (oracle, score, solver), _noise(key_q, n // 2, oracle), CHUNK)
    _, z = _noise(key_p, n // 2, oracle)
    of_p = np.asarray(oracle.process.prior_scale() * z, of_q.dtype)
    shared = oracle, score, AugmentedODE(solver)
    J, converged = map_rows(_along, shared, (np.concatenate([of_q, of_p]),), CHUNK)
    J_SM, J_Diff, J_Fisher = J.astype(np.float64).reshape(2, SHIFTS, -1, 3).mean((0, 2)).T
    S, F = J_SM.mean(), J_Fisher.mean()
    # The tangent of √(S F) at the means has their value there, and its error. Where the score is
    # exact they are zero, or a solver's error of either sign.
    value = np.sqrt(max(S, 0.0) * max(F, 0.0))
    root = 0.5 * value * (J_SM / (S or 1.0) + J_Fisher / (F or 1.0))
    terms = J_SM, J_Diff, J_SM + J_Diff, J_Fisher, root
    SM, Diff, ODE, Fisher, root = map(Estimate.of, terms)
    return Integrals(SM, Diff, ODE, Fisher, root, len(J), int(np.sum(~converged)))


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
    u, z = _noise(key, n, oracle)
    t = np.repeat(times, len(u))
    rows = t, np.tile(u, len(times)), np.tile(z, (len(times), 1))
    squares, half_g2 = map_rows(_at, (oracle, score, AugmentedODE(solver)), rows, CHUNK)

    def mean(values: Host) -> Estimate:
        return Estimate.of(values.reshape(len(times), SHIFTS, -1).mean(2).T)

    SM, _, fisher = squares.T
    return Curves(times, mean(fisher), mean(half_g2 * fisher), mean(half_g2 * SM))


def _noise(key: PRNGKeyArray, n: int, oracle: MixtureOracle) -> tuple[Host, Host]:
    """n rows, a whole number for every shift, of what `from_noise` takes: uniforms and normals.

    Uniforms go up evenly within a shift, so that every component has its share of it to one row,
    and of the spread normals a stretch, which is evenly spread itself.
    """
    key_u, key_z = jr.split(key)
    each = n // SHIFTS
    u = (np.asarray(jr.uniform(key_u, (SHIFTS, 1)), np.float64) + np.arange(each)) / each
    points = spread_points(key_z, SHIFTS, each, oracle.means.shape[1])
    return u.ravel(), ndtri(points.reshape(len(u.ravel()), -1))


def _mean(values: Host) -> Estimate:
    return Estimate.of(values.astype(np.float64).reshape(SHIFTS, -1).mean(1))


def _divergence(log_rho: Scalar, found: LogLikelihood) -> Scalar:
    """2 (ρ log ρ − ρ + 1) / (1 + ρ); nan where ρ is not known, as its solve failed."""
    of_q = jax.nn.sigmoid(log_rho)
    return jnp.where(found.converged, 2 * (of_q * (log_rho - 1) + 1 - of_q), jnp.nan)


def _divergence_under_q(
    oracle: MixtureOracle, score: ScoreFunction, how: Likelihood, u: Scalar, z: Array
) -> Scalar:
    """At a draw of q_0."""
    process, t = oracle.process, jnp.asarray(oracle.process.t_min, z.dtype)
    x = oracle.from_noise(u, z, t)
    found = how(score, process, jr.key(0), x)
    return _divergence(oracle.log_density(x, t) - found.nats, found)


def _divergence_under_p(
    oracle: MixtureOracle, score: ScoreFunction, how: Likelihood, _: Scalar, z: Array
) -> Scalar:
    """At a draw of p_0."""
    process, t = oracle.process, jnp.asarray(oracle.process.t_min, z.dtype)
    x, found = how.sample(score, process, jr.key(0), process.prior_scale(z.dtype) * z)
    return _divergence(oracle.log_density(x, t) - found.nats, found)


def _log_ratio_T(oracle: MixtureOracle, u: Scalar, z: Array) -> Scalar:
    """log q_T − log p_T at a draw of q_T."""
    process, T = oracle.process, jnp.asarray(oracle.process.t_max, z.dtype)
    x = oracle.from_noise(u, z, T)
    return oracle.log_density(x, T) - process.prior_log_density(x)


def _latent(
    oracle: MixtureOracle, score: ScoreFunction, solver: Solver, u: Scalar, z: Array
) -> Array:
    """x_T of a draw of q_0."""
    process, t = oracle.process, jnp.asarray(oracle.process.t_min, z.dtype)
    y_0 = oracle.from_noise(u, z, t) / scales(process, t)[0]
    low, high = process.log_snr_range(z.dtype)
    field = lambda log_snr, y: standard_velocity(score, process, y, log_snr)  # noqa: E731
    return process.prior_scale(z.dtype) * solver(field, y_0, high, low)[0]


def _along(
    oracle: MixtureOracle, score: ScoreFunction, how: AugmentedODE, x_T: Array
) -> tuple[Float[Array, "3"], Bool[Array, ""]]:
    """The integrals along the path that ends at x_T, weighted by its x_0; converged."""
    process, t_0 = oracle.process, jnp.asarray(oracle.process.t_min, x_T.dtype)

    def integrand(t: Scalar, x: Array, log_p: Scalar, m: Array) -> Array:
        ratio = jnp.exp(jnp.minimum(oracle.log_density(x, t) - log_p, LARGEST))
        return ratio * _errors(oracle, score, t, x, m)

    x_0, found, J = how.from_latent(score, process, x_T, t_0, integrand)
    log_rho = oracle.log_density(x_0, t_0) - found.log_density
    return 2 * jax.nn.sigmoid(-log_rho) * J, found.converged


def _at(
    oracle: MixtureOracle, score: ScoreFunction, how: AugmentedODE, t: Scalar, u: Scalar, z: Array
) -> tuple[Float[Array, "3"], Scalar]:
    """The errors at a draw of q_t; ½ g²."""
    x = oracle.from_noise(u, z, t)
    m = how(score, oracle.process, x, t).score
    return _errors(oracle, score, t, x, m), 0.5 * oracle.process.g2(t)


def _errors(
    oracle: MixtureOracle, score: ScoreFunction, t: Scalar, x: Array, m: Array
) -> Float[Array, "3"]:
    """‖s − ∇log q‖², (s − ∇log q)ᵀ (m − s) and ‖m − ∇log q‖²."""
    s, truth = score(x, t), oracle(x, t)
    terms = jnp.sum((s - truth) ** 2), jnp.vdot(s - truth, m - s), jnp.sum((m - truth) ** 2)
    return jnp.stack(terms)
