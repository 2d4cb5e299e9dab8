r"""The model's density and score at any time: log p_t and m = ∇log p_t under the ScoreODE.

In y = x/S, S = √(α² + σ²), and the log-SNR λ, the ODE of every process is dy/dλ = f(y, λ). With m
the score of the density of y,

    d log p / dλ = −∇·f,    dm/dλ = −∇(∇·f) − (∇f)ᵀ m =: R(y, m),

and one derivative more gives the Hessian M = ∇²log p,

    dM/dλ = ∂R/∂y − (∇f)ᵀ M − M ∇f.

At T all of these are of order one, so one tolerance is enough. `AugmentedODE` first solves the path
from x at t to T, where the prior is known, and then solves these equations back along it.
`LikelihoodGradient` differentiates the log-likelihood through a solver in x and t. The two share no
formula.

m is the score of the density that the ODE samples. It differs from s, and the theorems are about
this difference.
"""

from collections.abc import Callable
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from scoreode._typing import Example, Scalar, ScoreFunction
from scoreode.calculus import AbstractProbe, Basis, ProbeDraw, derivatives
from scoreode.flow import Likelihood, Solver, scales, standard_velocity
from scoreode.process import AbstractProcess


class ModelScore(eqx.Module):
    """log p_t^ODE(x) in nats, ∇log p_t^ODE(x), and how they were computed."""

    log_density: Float[Array, "..."]
    score: Float[Array, "..."]
    hessian: Float[Array, "... d d"] | None
    """∇²log p_t^ODE(x), if requested."""
    nfe: Int[Array, "..."]
    """Evaluations of the score, in both directions."""
    converged: Bool[Array, "..."]
    latent: Float[Array, "..."]
    """x_T, the point that the ODE connects with x."""

    def after(self, nfe: int | Array, converged: Bool[Array, ""]) -> Self:
        """This record with an earlier solve's evaluations and convergence included."""
        both = self.nfe + nfe, self.converged & converged
        return eqx.tree_at(lambda record: (record.nfe, record.converged), self, both)


Integrand = Callable[[Scalar, Example, Scalar, Example], Array]


def _nothing(_t: Scalar, x: Example, *_: Array) -> Array:
    return jnp.zeros(0, x.dtype)


class AugmentedODE(eqx.Module):
    """The model score by the augmented ODE, with exact derivatives of s.

    **Arguments:** `solver`; `hessian`: whether to compute M too.
    """

    solver: Solver = Solver()
    hessian: bool = False

    def __call__(
        self, score: ScoreFunction, process: AbstractProcess, x: Example, t: Scalar
    ) -> ModelScore:
        """log p_t and ∇log p_t at one x, for t in [t_min, T].

        **Cost:** `nfe` evaluations of the score. About half of them have d tangents and a reverse
        sweep over each tangent; `hessian` adds d tangents of all of that.
        """
        S, _ = scales(process, t)
        ends = process.log_snr(t), process.log_snr_range(x.dtype)[0]
        field = lambda log_snr, y: standard_velocity(score, process, y, log_snr)  # noqa: E731
        y_T, nfe, converged = self.solver(field, x / S, *ends)
        _, record, _ = self.from_latent(score, process, process.prior_scale(x.dtype) * y_T, t)
        return record.after(nfe, converged)

    def from_latent(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        x_T: Example,
        t: Scalar,
        integrand: Integrand = _nothing,
    ) -> tuple[Example, ModelScore, Array]:
        """The x at t to which the ODE maps x_T, the record at x, and ∫ ½ g² integrand dt.

        **Arguments:** `integrand(t, x, log p, m)`, which returns an array.

        **Cost:** the evaluations with tangents of `__call__`.
        """
        shape, d = x_T.shape, x_T.size
        low, high = process.log_snr_range(x_T.dtype)[0], process.log_snr(t)
        flat = lambda x, t: score(x.reshape(shape), t).ravel()  # noqa: E731
        probes = _basis(x_T)

        def terms(log_snr: Scalar, y: Array, log_p: Scalar, m: Array) -> Array:
            """½ g² integrand dt/dλ in the coordinates of x, with dt = −σ²/g² dλ."""
            t = process.t_of_log_snr(log_snr)
            S, _ = scales(process, t)
            x, m = (S * y).reshape(shape), (m / S).reshape(shape)
            value = integrand(t, x, log_p - d * jnp.log(S), m)
            return 0.5 * process.sigma(t) ** 2 * value

        def field(log_snr: Scalar, state: tuple[Array, ...]) -> tuple[Array, ...]:
            rates = _rates(flat, process, probes, state[:-1], log_snr)
            return *rates, terms(log_snr, *state[:3])

        y = (x_T / process.prior_scale(x_T.dtype)).ravel()
        log_normal = -0.5 * jnp.sum(y**2) - 0.5 * d * jnp.log(2 * jnp.pi).astype(y.dtype)
        start = (y, log_normal, -y, -jnp.eye(d, dtype=y.dtype))[: 4 if self.hessian else 3]
        integral = jnp.zeros_like(jax.eval_shape(terms, low, *start[:3]))
        state, nfe, converged = self.solver(field, (*start, integral), low, high)
        y, log_p, m, *M, integral = state
        S, _ = scales(process, t)
        log_p = log_p - d * jnp.log(S)
        hessian = M[0] / S**2 if M else None
        record = ModelScore(log_p, (m / S).reshape(shape), hessian, nfe, converged, x_T)
        finite = jnp.all(jnp.isfinite(m)) & jnp.isfinite(log_p)
        return (S * y).reshape(shape), record.after(0, finite), integral


class LikelihoodGradient(eqx.Module):
    """The model score by reverse-mode differentiation of log p_t(x) through the solver.

    **Arguments:** `solver`; `probe` and `n_probes` of the divergence, exact by default. With random
    probes log p_t and its gradient are unbiased estimates.

    **Cost:** `nfe` evaluations with d tangents, or one a probe, and a reverse sweep over them.
    """

    solver: Solver = Solver()
    probe: AbstractProbe = Basis()
    n_probes: int = 1

    def __call__(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        x: Example,
        t: Scalar,
        key: PRNGKeyArray | None = None,
    ) -> ModelScore:
        """log p_t and ∇log p_t at one x, for t in [t_min, T]; `key` of random probes."""
        key = jr.key(0) if key is None else key
        drawn = self.probe, self.probe.draw(key, self.n_probes, x.size, x.dtype)
        likelihood, T = Likelihood(solver=self.solver), process.t_max

        def log_density(x: Example) -> tuple[Scalar, tuple]:
            x_T, change, nfe, converged = likelihood.solve(score, process, drawn, x, t, T)
            return process.prior_log_density(x_T) + jnp.mean(change), (nfe, converged, x_T)

        (nats, (nfe, converged, x_T)), m = jax.value_and_grad(log_density, has_aux=True)(x)
        return ModelScore(nats, m, None, nfe, converged & jnp.all(jnp.isfinite(m)), x_T)


def _basis(x: Example) -> ProbeDraw:
    return Basis().draw(jr.key(0), x.size, x.size, x.dtype)


def _rates(
    score: ScoreFunction,
    process: AbstractProcess,
    probes: ProbeDraw,
    state: tuple[Array, ...],
    log_snr: Scalar,
) -> tuple[Array, ...]:
    """d/dλ of (y, log p, m), and of M if it is part of the state."""
    y, _, m, *M = state
    t = process.t_of_log_snr(log_snr)
    S, half_sin2 = scales(process, t)

    def dm_dlambda(y: Float[Array, " d"]) -> tuple[Float[Array, " d"], tuple]:
        record = derivatives(lambda y: S * score(S * y, t), y, probes, order=3)
        assert record.jvp is not None
        assert record.grad_quadratic is not None
        grad_f = half_sin2 * (record.jvp.T + jnp.eye(y.size, dtype=y.dtype))
        dm = -half_sin2 * jnp.sum(record.grad_quadratic, 0) - grad_f.T @ m
        return dm, (dm, half_sin2 * (record.s + y), grad_f)

    if not M:
        _, (dm, f, grad_f) = dm_dlambda(y)
        return f, -jnp.trace(grad_f), dm
    dm_dy, (dm, f, grad_f) = jax.jacfwd(dm_dlambda, has_aux=True)(y)
    return f, -jnp.trace(grad_f), dm, dm_dy - grad_f.T @ M[0] - M[0] @ grad_f
