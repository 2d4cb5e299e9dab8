r"""Theorem 2, checked numerically: three score-matching errors bound the model score's error.

Let r = ∇log p_t − ∇log q_t. Along the *data* ODE dx/dt = h_q = f − ½ g² ∇log q_t

    dr/dt = ½ g² [∇tr(∇s − ∇²log q) + (∇s − ∇²log q)ᵀ ∇log p + ∇²log p (s − ∇log q)] − (∇h_q)ᵀ r,

so with the pointwise errors

    δ1 = ‖s − ∇log q‖,    δ2 = ‖∇s − ∇²log q‖_F,    δ3 = ‖∇tr ∇s − ∇tr ∇²log q‖

and a bound C on ‖∇²log p_t‖₂, we have ‖r‖ ≤ u, where u solves, backward from u(T) = ‖r(T)‖,

    −du/dt = ½ g² [δ3 + δ2 (u + ‖∇log q‖) + C δ1] + ‖∇h_q‖₂ u.

Points on paths of the data ODE have the law q_t, hence D_F(q_t ‖ p_t) ≤ E[u(t)²], the mean over
paths.

The errors are evaluated on a grid of the log-SNR λ, dλ = −(g²/σ²) dt, where all coefficients are
smooth. The equation for u is then solved with its coefficients averaged over each step.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float

from scoreode._typing import Scalar, ScoreFunction
from scoreode.calculus import Basis, derivatives
from scoreode.flow import Solver, velocity
from scoreode.theory.model_score import AugmentedODE
from scoreode.theory.oracle import MixtureOracle

Vector = Float[Array, " d"]
OverTime = Float[Array | np.ndarray, "..."]


class PathErrors(eqx.Module):
    """The errors along a path of the data ODE from T to t_min, as arrays over times."""

    t: OverTime
    log_snr: OverTime
    sigma2: OverTime
    x: Float[Array | np.ndarray, "... d"]
    delta1: OverTime
    delta2: OverTime
    delta3: OverTime
    q_score: OverTime
    """‖∇log q_t‖."""
    p_curvature: OverTime
    """‖∇²log p_t‖₂, the smallest possible C."""
    norm: OverTime
    """(σ²/g²) ‖∇h_q‖₂, a bound on the growth rate of errors per unit of log-SNR."""
    log_norm: OverTime
    """The same with the largest eigenvalue of ∇h_q, its logarithmic norm."""
    r: OverTime
    """‖∇log p_t − ∇log q_t‖, the error that u bounds."""
    converged: Bool[Array | np.ndarray, "..."]

    def bound(self, C: float | None = None, sharp: bool = False) -> Float[np.ndarray, "..."]:
        """u ≥ ‖r‖ at every time of the path; E[u²] over paths bounds the Fisher divergence.

        **Arguments:** `C`, a bound on ‖∇²log p_t‖₂ (None: its value at every point); `sharp`: use
        the logarithmic norm instead of ‖∇h_q‖₂, which gives a valid and tighter bound.
        """
        C_t = self.p_curvature if C is None else C
        a = self.delta3 + self.delta2 * self.q_score + C_t * self.delta1
        a, b = 0.5 * self.sigma2 * a, 0.5 * self.sigma2 * self.delta2
        b = b + (self.log_norm if sharp else self.norm)
        width = np.diff(self.log_snr)
        a, b = (width * (f[..., 1:] + f[..., :-1]) / 2 for f in (a, b))
        u = [self.r[..., 0]]
        for step in range(width.shape[-1]):
            u.append(np.exp(b[..., step]) * u[-1] + np.exp(b[..., step] / 2) * a[..., step])
        return np.stack(u, -1)


class DataPath(eqx.Module):
    """Computes the errors along the data ODE, at `n_times` times equally spaced in log-SNR."""

    n_times: int = 128
    solver: Solver = Solver()

    def __call__(self, oracle: MixtureOracle, score: ScoreFunction, x_0: Vector) -> PathErrors:
        """The errors along the path that ends at x_0 at t_min.

        **Cost:** `n_times` solves of the augmented ODE with the Hessian.
        """
        process = oracle.process
        log_snr = jnp.linspace(*process.log_snr_range(x_0.dtype), self.n_times, dtype=x_0.dtype)
        t = jax.vmap(process.t_of_log_snr)(log_snr)
        path = self._path(oracle, x_0, t)
        model = AugmentedODE(self.solver, hessian=True)

        def errors_at(x: Vector, t: Scalar, log_snr: Scalar) -> PathErrors:
            p = model(score, process, x, t)
            q_score = oracle(x, t)
            return PathErrors(
                *(t, log_snr, process.sigma(t) ** 2, x),
                *_deltas(oracle, score, x, t),
                jnp.linalg.norm(q_score),
                jnp.linalg.norm(p.hessian, 2),
                *_growth(oracle, x, t),
                jnp.linalg.norm(p.score - q_score),
                p.converged,
            )

        return jax.vmap(errors_at)(path, t, log_snr)

    def _path(self, oracle: MixtureOracle, x_0: Vector, t: Array) -> Float[Array, "times d"]:
        """The data ODE's path that ends at x_0, at times t in decreasing order from T to t_min."""

        def step(x: Vector, ends: tuple[Scalar, Scalar]) -> tuple[Vector, Vector]:
            x, *_ = self.solver(lambda t, x: velocity(oracle, oracle.process, x, t), x, *ends)
            return x, x

        _, path = jax.lax.scan(step, x_0, (t[1:], t[:-1]), reverse=True)
        return jnp.append(path, x_0[None], axis=0)


def _deltas(
    oracle: MixtureOracle, score: ScoreFunction, x: Vector, t: Scalar
) -> tuple[Scalar, Scalar, Scalar]:
    """δ1, δ2, δ3 at one point."""
    probes = Basis().draw(jr.key(0), x.size, x.size, x.dtype)
    record = derivatives(lambda x: score(x, t), x, probes, order=3)
    assert record.jvp is not None
    assert record.grad_quadratic is not None
    return (
        jnp.linalg.norm(record.s - oracle(x, t)),
        jnp.linalg.norm(record.jvp.T - oracle.hessian(x, t)),
        jnp.linalg.norm(jnp.sum(record.grad_quadratic, 0) - oracle.grad_trace_hessian(x, t)),
    )


def _growth(oracle: MixtureOracle, x: Vector, t: Scalar) -> tuple[Scalar, Scalar]:
    """(σ²/g²) ‖∇h_q‖₂, and σ²/g² times the largest eigenvalue of the symmetric matrix ∇h_q."""
    process, eye = oracle.process, jnp.eye(x.size, dtype=x.dtype)
    g2 = process.g2(t)
    grad_h = process.drift_rate(t) * eye - 0.5 * g2 * oracle.hessian(x, t)
    eigenvalues = process.sigma(t) ** 2 / g2 * jnp.linalg.eigvalsh(grad_h)
    return jnp.max(jnp.abs(eigenvalues)), jnp.max(eigenvalues)
