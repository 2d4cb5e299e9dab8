r"""Theorem 1, checked numerically: the KL divergence of a ScoreODE, term by term.

With q_t the mixture's marginals, p_t those of the ScoreODE, s its score and m = ∇log p_t,

    KL(q_0 ‖ p_0) = KL(q_T ‖ p_T) + J_ODE,    J_ODE = J_SM + J_Diff,

    J_SM     = ½ ∫ g² E_q ‖s − ∇log q‖² dt
    J_Diff   = ½ ∫ g² E_q (s − ∇log q)ᵀ (m − s) dt
    J_Fisher = ½ ∫ g² E_q ‖m − ∇log q‖² dt = ½ ∫ g² D_F(q_t ‖ p_t) dt.

The Cauchy–Schwarz inequality gives J_ODE ≤ √(J_SM J_Fisher), and for the ScoreSDE
KL(q_0 ‖ p_0^SDE) ≤ KL(q_T ‖ p_T) + J_SM. Time 0 stands for t_min on both sides, so all of this is
exact.

Half of the draws of x_0 come from q_0 and half from p_0, so that no region of either is missed.
With ρ = q_0/p_0, the importance weight of a draw is 2/(1 + ρ) for means over p_0 and 2ρ/(1 + ρ) for
means over q_0. Hence

    KL(q_0 ‖ p_0) = E [2 (ρ log ρ − ρ + 1) / (1 + ρ)].

Its terms are of the order of the KL; terms log ρ would be of the order of the square root of the
KL. The ScoreODE maps every draw from T to t_min, together with p_t and m. Draws of p_0 have the
density p_t at time t, so

    J = E [2/(1 + ρ) ∫ ½ g² (q_t/p_t) (…) dt]

has a whole integral over time for every path. The two sides of the theorem use different draws.
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
LEFT = 4  # draws for the left side per draw for the right side
CHUNK = 512
LARGEST = 30.0  # the cap on log q_t/p_t, against overflow
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
    """The number of paths whose solve failed; if there are any, do not trust these values."""


class Theorem1(eqx.Module):
    """Both sides of Theorem 1 in nats; the left side is from 4 `J.n` draws of x_0."""

    kl_0: Estimate
    kl_T: Estimate
    J: Integrals

    @property
    def difference(self) -> Estimate:
        """KL(q_0 ‖ p_0) − KL(q_T ‖ p_T) − J_ODE, zero by the theorem."""
        return self.kl_0 - (self.kl_T + self.J.ODE)

    @property
    def cauchy_schwarz(self) -> Estimate:
        """KL(q_T ‖ p_T) + √(J_SM J_Fisher), an upper bound on KL(q_0 ‖ p_0^ODE)."""
        return self.kl_T + self.J.root

    @property
    def sde_bound(self) -> Estimate:
        """KL(q_T ‖ p_T) + J_SM, an upper bound on KL(q_0 ‖ p_0^SDE)."""
        return self.kl_T + self.J.SM


class Curves(eqx.Module):
    """D_F(q_t ‖ p_t), ℓ_Fisher = ½ g² D_F and ℓ_SM = ½ g² E‖s − ∇log q‖² as functions of t.

    The time integrals of ℓ_Fisher and ℓ_SM are J_Fisher and J_SM.
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
    """Every term of Theorem 1, for data from the oracle's mixture and the ScoreODE of a score.

    The right side uses n draws of x_0 and the left side 4 n: evenly spread points under 16 shifts,
    whose spread gives the standard errors. These do not include the solver's error: for small
    standard errors, work in float64.

    **Arguments:** `oracle`, q_t; `score`, s; `key`; `n`, draws for the right side; `solver`.

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
    """J_SM, J_Diff, J_ODE and J_Fisher: only the right side of Theorem 1 and its bound.

    **Arguments:** those of `theorem_1`.

    **Cost:** n paths with third derivatives, and n/2 without.
    """
    key_q, key_p = jr.split(key)
    x_q = map_rows(_latent, (oracle, score, solver), _noise(key_q, n // 2, oracle), CHUNK)
    _, z = _noise(key_p, n // 2, oracle)
    x_p = np.asarray(oracle.process.prior_scale() * z, x_q.dtype)
    shared = oracle, score, AugmentedODE(solver)
    J, converged = map_rows(_path_integrals, shared, (np.concatenate([x_q, x_p]),), CHUNK)
    J_SM, J_Diff, J_Fisher = J.astype(np.float64).reshape(2, SHIFTS, -1, 3).mean((0, 2)).T
    S, F = J_SM.mean(), J_Fisher.mean()
    # √(S F) linearised at the means has the right value there and the right standard error. For an
    # exact score S and F are zero up to the solver's error, which may be negative.
    value = np.sqrt(max(S, 0.0) * max(F, 0.0))
    root = 0.5 * value * (J_SM / (S or 1.0) + J_Fisher / (F or 1.0))
    terms = J_SM, J_Diff, J_SM + J_Diff, J_Fisher, root
    SM, Diff, ODE, Fisher, root = map(Estimate.from_samples, terms)
    return Integrals(SM, Diff, ODE, Fisher, root, len(J), int(np.sum(~converged)))


def curves(
    oracle: MixtureOracle,
    score: ScoreFunction,
    times: Host,
    key: PRNGKeyArray,
    n: int = 1024,
    solver: Solver = Solver(),
) -> Curves:
    """The errors of the score and of the model score over time, from n draws of x_t at each time.

    **Arguments:** those of `theorem_1`; `times` in [t_min, T].

    **Cost:** n solves with third derivatives for every time.
    """
    u, z = _noise(key, n, oracle)
    t = np.repeat(times, len(u))
    rows = t, np.tile(u, len(times)), np.tile(z, (len(times), 1))
    squares, half_g2 = map_rows(_errors_at, (oracle, score, AugmentedODE(solver)), rows, CHUNK)

    def mean(values: Host) -> Estimate:
        return Estimate.from_samples(values.reshape(len(times), SHIFTS, -1).mean(2).T)

    SM, _, fisher = squares.T
    return Curves(times, mean(fisher), mean(half_g2 * fisher), mean(half_g2 * SM))


def _noise(key: PRNGKeyArray, n: int, oracle: MixtureOracle) -> tuple[Host, Host]:
    """Uniforms and normals for `from_noise`, n rows in blocks of one shift each.

    Uniforms increase evenly within a shift. So every component gets its share of the rows, up to
    one row, and a contiguous block of the spread normals, which is itself evenly spread.
    """
    key_u, key_z = jr.split(key)
    per_shift = n // SHIFTS
    offset = np.asarray(jr.uniform(key_u, (SHIFTS, 1)), np.float64)
    u = (offset + np.arange(per_shift)) / per_shift
    points = spread_points(key_z, SHIFTS, per_shift, oracle.means.shape[1])
    return u.ravel(), ndtri(points.reshape(len(u.ravel()), -1))


def _mean(values: Host) -> Estimate:
    return Estimate.from_samples(values.astype(np.float64).reshape(SHIFTS, -1).mean(1))


def _divergence(log_rho: Scalar, p: LogLikelihood) -> Scalar:
    """2 (ρ log ρ − ρ + 1) / (1 + ρ); nan if the solve for p_0 failed."""
    q_share = jax.nn.sigmoid(log_rho)
    return jnp.where(p.converged, 2 * (q_share * (log_rho - 1) + 1 - q_share), jnp.nan)


def _divergence_under_q(
    oracle: MixtureOracle, score: ScoreFunction, likelihood: Likelihood, u: Scalar, z: Array
) -> Scalar:
    """`_divergence` at a draw of q_0."""
    process, t = oracle.process, jnp.asarray(oracle.process.t_min, z.dtype)
    x = oracle.from_noise(u, z, t)
    p = likelihood(score, process, jr.key(0), x)
    return _divergence(oracle.log_density(x, t) - p.nats, p)


def _divergence_under_p(
    oracle: MixtureOracle, score: ScoreFunction, likelihood: Likelihood, _: Scalar, z: Array
) -> Scalar:
    """`_divergence` at a draw of p_0."""
    process, t = oracle.process, jnp.asarray(oracle.process.t_min, z.dtype)
    x, p = likelihood.sample(score, process, jr.key(0), process.prior_scale(z.dtype) * z)
    return _divergence(oracle.log_density(x, t) - p.nats, p)


def _log_ratio_T(oracle: MixtureOracle, u: Scalar, z: Array) -> Scalar:
    """log q_T − log p_T at a draw of q_T."""
    process, T = oracle.process, jnp.asarray(oracle.process.t_max, z.dtype)
    x = oracle.from_noise(u, z, T)
    return oracle.log_density(x, T) - process.prior_log_density(x)


def _latent(
    oracle: MixtureOracle, score: ScoreFunction, solver: Solver, u: Scalar, z: Array
) -> Array:
    """The x_T to which the ODE maps a draw of q_0."""
    process, t = oracle.process, jnp.asarray(oracle.process.t_min, z.dtype)
    y_0 = oracle.from_noise(u, z, t) / scales(process, t)[0]
    low, high = process.log_snr_range(z.dtype)
    field = lambda log_snr, y: standard_velocity(score, process, y, log_snr)  # noqa: E731
    return process.prior_scale(z.dtype) * solver(field, y_0, high, low)[0]


def _path_integrals(
    oracle: MixtureOracle, score: ScoreFunction, ode: AugmentedODE, x_T: Array
) -> tuple[Float[Array, "3"], Bool[Array, ""]]:
    """J_SM, J_Diff and J_Fisher along the path from x_T, times its weight 2/(1 + ρ); converged."""
    process, t_0 = oracle.process, jnp.asarray(oracle.process.t_min, x_T.dtype)

    def integrand(t: Scalar, x: Array, log_p: Scalar, m: Array) -> Array:
        ratio = jnp.exp(jnp.minimum(oracle.log_density(x, t) - log_p, LARGEST))
        return ratio * _errors(oracle, score, t, x, m)

    x_0, p, J = ode.from_latent(score, process, x_T, t_0, integrand)
    log_rho = oracle.log_density(x_0, t_0) - p.log_density
    return 2 * jax.nn.sigmoid(-log_rho) * J, p.converged


def _errors_at(
    oracle: MixtureOracle, score: ScoreFunction, ode: AugmentedODE, t: Scalar, u: Scalar, z: Array
) -> tuple[Float[Array, "3"], Scalar]:
    """`_errors` at a draw of q_t, and ½ g²."""
    x = oracle.from_noise(u, z, t)
    m = ode(score, oracle.process, x, t).score
    return _errors(oracle, score, t, x, m), 0.5 * oracle.process.g2(t)


def _errors(
    oracle: MixtureOracle, score: ScoreFunction, t: Scalar, x: Array, m: Array
) -> Float[Array, "3"]:
    """‖s − ∇log q‖², (s − ∇log q)ᵀ (m − s) and ‖m − ∇log q‖²."""
    s, truth = score(x, t), oracle(x, t)
    terms = jnp.sum((s - truth) ** 2), jnp.vdot(s - truth, m - s), jnp.sum((m - truth) ** 2)
    return jnp.stack(terms)
