r"""The model's density and score at any time: log p_t and m = ∇log p_t under the ScoreODE.

In y = x/S, S = √(α² + σ²), and the log-SNR λ, where the ODE of every process is dy/dλ = f(y, λ),
with m now the score of the density of y,

    d log p / dλ = −∇·f,    dm/dλ = −∇(∇·f) − (∇f)ᵀ m =: R(y, m),

and one derivative more gives the Hessian M = ∇²log p,

    dM/dλ = ∂R/∂y − (∇f)ᵀ M − M ∇f.

All of it is of order one at T, so that one tolerance serves all. From x at t the path is followed
to T, where the prior is known; all is then carried back along it. A second way,
`LikelihoodGradient`, differentiates the log-likelihood through a solver in x and t, and shares no
formula with the first.

m is the score of what the ODE samples from. It is not s: that is the theorems' whole subject.
"""

from collections.abc import Callable
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from scoreode._typing import Example, Scalar, ScoreFunction
from scoreode.calculus import Basis, ProbeDraw, derivatives, divergence
from scoreode.flow import Solver, scales, standard_velocity, velocity
from scoreode.process import AbstractProcess


class ModelScore(eqx.Module):
    """log p_t^ODE(x) in nats, ∇log p_t^ODE(x), and what one needs to trust them."""

    log_density: Float[Array, "..."]
    score: Float[Array, "..."]
    hessian: Float[Array, "... d d"] | None
    """∇²log p_t^ODE(x), where asked for."""
    nfe: Int[Array, "..."]
    """Evaluations of the score, there and back."""
    converged: Bool[Array, "..."]
    latent: Float[Array, "..."]
    """x_T, the point that x comes from."""

    def after(self, nfe: int | Array, converged: Bool[Array, ""]) -> Self:
        """With the evaluations and the success of what was done before."""
        both = self.nfe + nfe, self.converged & converged
        return eqx.tree_at(lambda found: (found.nfe, found.converged), self, both)


Integrand = Callable[[Scalar, Example, Scalar, Example], Array]


def _nothing(_t: Scalar, x: Example, *_: Array) -> Array:
    return jnp.zeros(0, x.dtype)


class AugmentedODE(eqx.Module):
    """The model score by the augmented ODE, with exact derivatives of s.

    **Arguments:** `solver`; `hessian`: whether to carry M too.
    """

    solver: Solver = Solver()
    hessian: bool = False

    def __call__(
        self, score: ScoreFunction, process: AbstractProcess, x: Example, t: Scalar
    ) -> ModelScore:
        """log p_t and ∇log p_t at one x, for t in [t_min, T].

        **Cost:** `nfe` evaluations of the score, about half of them alone and half with d tangents
        and a reverse sweep over each; d tangents of all that with `hessian`.
        """
        S, _ = scales(process, t)
        ends = process.log_snr(t), process.log_snr_range(x.dtype)[0]
        field = lambda log_snr, y: standard_velocity(score, process, y, log_snr)  # noqa: E731
        y_T, nfe, reached = self.solver(field, x / S, *ends)
        _, found, _ = self.from_latent(score, process, process.prior_scale(x.dtype) * y_T, t)
        return found.after(nfe, reached)

    def from_latent(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        x_T: Example,
        t: Scalar,
        integrand: Integrand = _nothing,
    ) -> tuple[Example, ModelScore, Array]:
        """The x at t that the ODE carries x_T to, the record there, and ∫ ½ g² integrand dt.

        **Arguments:** `integrand(t, x, log p, m)`, an array.

        **Cost:** the second half of `__call__`'s.
        """
        shape, d = x_T.shape, x_T.size
        low, high = process.log_snr_range(x_T.dtype)[0], process.log_snr(t)
        flat = lambda x, t: score(x.reshape(shape), t).ravel()  # noqa: E731
        probes = _basis(x_T)

        def terms(log_snr: Scalar, y: Array, log_p: Scalar, m: Array) -> Array:
            """½ g² integrand dt/dλ, as dt = −σ²/g² dλ, of what belongs to x."""
            t = process.t_of_log_snr(log_snr)
            S, _ = scales(process, t)
            x, m = (S * y).reshape(shape), (m / S).reshape(shape)
            part = integrand(t, x, log_p - d * jnp.log(S), m)
            return 0.5 * process.sigma(t) ** 2 * part

        def field(log_snr: Scalar, state: tuple[Array, ...]) -> tuple[Array, ...]:
            rates = _rates(flat, process, probes, state[:-1], log_snr)
            return *rates, terms(log_snr, *state[:3])

        y = (x_T / process.prior_scale(x_T.dtype)).ravel()
        log_normal = -0.5 * jnp.sum(y**2) - 0.5 * d * jnp.log(2 * jnp.pi).astype(y.dtype)
        start = (y, log_normal, -y, -jnp.eye(d, dtype=y.dtype))[: 4 if self.hessian else 3]
        none = jax.eval_shape(terms, low, *start[:3])
        ends = (*start, jnp.zeros_like(none)), low, high
        (y, log_p, m, *M, integral), nfe, converged = self.solver(field, *ends)
        S, _ = scales(process, t)
        log_p = log_p - d * jnp.log(S)
        hessian = M[0] / S**2 if M else None
        found = ModelScore(log_p, (m / S).reshape(shape), hessian, nfe, converged, x_T)
        finite = jnp.all(jnp.isfinite(m)) & jnp.isfinite(log_p)
        return (S * y).reshape(shape), found.after(0, finite), integral


class LikelihoodGradient(eqx.Module):
    """The model score by reverse-mode differentiation of log p_t(x) through the solver.

    **Cost:** `nfe` evaluations with d tangents, and their reverse sweep.
    """

    solver: Solver = Solver()

    def __call__(
        self, score: ScoreFunction, process: AbstractProcess, x: Example, t: Scalar
    ) -> ModelScore:
        """log p_t and ∇log p_t at one x, for t in [t_min, T]."""
        probes = _basis(x)

        def field(t: Scalar, y: tuple[Example, Array]) -> tuple[Example, Array]:
            return divergence(lambda x: velocity(score, process, x, t), y[0], probes, exact=True)

        def log_density(x: Example) -> tuple[Scalar, tuple]:
            start = x, jnp.zeros(1, x.dtype)
            (x_T, change), nfe, converged = self.solver(field, start, t, process.t_max)
            return process.prior_log_density(x_T) + change[0], (nfe, converged, x_T)

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
    """d/dλ of (y, log p, m), and of M where the state has it."""
    y, _, m, *M = state
    t = process.t_of_log_snr(log_snr)
    S, half_sin2 = scales(process, t)

    def of_m(y: Float[Array, " d"]) -> tuple[Float[Array, " d"], tuple]:
        record = derivatives(lambda y: S * score(S * y, t), y, probes, order=3)
        assert record.jvp is not None
        assert record.grad_quadratic is not None
        grad_f = half_sin2 * (record.jvp.T + jnp.eye(y.size, dtype=y.dtype))
        dm = -half_sin2 * jnp.sum(record.grad_quadratic, 0) - grad_f.T @ m
        return dm, (dm, half_sin2 * (record.s + y), grad_f)

    if not M:
        _, (dm, f, grad_f) = of_m(y)
        return f, -jnp.trace(grad_f), dm
    dm_dy, (dm, f, grad_f) = jax.jacfwd(of_m, has_aux=True)(y)
    return f, -jnp.trace(grad_f), dm, dm_dy - grad_f.T @ M[0] - M[0] @ grad_f
