r"""The model's density and score at any time: log p_t and m = ∇log p_t under the ScoreODE.

Along dx/dt = h, with m(x, t) the score of the density that h carries,

    d log p / dt = −∇·h,    dm/dt = −∇(∇·h) − (∇h)ᵀ m =: R(x, m),

and one derivative more gives the Hessian M = ∇²log p_t,

    dM/dt = ∂R/∂x − (∇h)ᵀ M − M ∇h.

From x at t the path is followed to T, where the prior is known; all is then carried back along it.
A second way, `LikelihoodGradient`, differentiates the log-likelihood through the solver, and shares
no formula with the first.

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
from scoreode.flow import Solver, velocity
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

    What is carried back is x/S, log p, S m and S² M, S = √(α² + σ²): of order one at T, so that one
    tolerance serves all.

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
        there, nfe, reached = self.solver(
            lambda t, x: velocity(score, process, x, t), x, t, process.t_max
        )
        _, found, _ = self.from_latent(score, process, there, t)
        return found.after(nfe, reached)

    def from_latent(
        self,
        score: ScoreFunction,
        process: AbstractProcess,
        x_T: Example,
        t: Scalar,
        integrand: Integrand = _nothing,
    ) -> tuple[Example, ModelScore, Array]:
        """The x at t that the ODE carries x_T to, the record there, and ∫ integrand dt on the way.

        **Arguments:** `integrand(t, x, log p, m)`, an array.

        **Cost:** the second half of `__call__`'s.
        """
        shape, T = x_T.shape, jnp.asarray(process.t_max, x_T.dtype)
        flat = lambda x, t: score(x.reshape(shape), t).ravel()  # noqa: E731
        log_p, x_flat = process.prior_log_density, x_T.ravel()
        ends = x_flat, log_p(x_flat), jax.grad(log_p)(x_flat), jax.hessian(log_p)(x_flat)
        units = (-1, 0, 1, 2) if self.hessian else (-1, 0, 1)
        probes = _basis(x_T)

        def change(t: Scalar, x: Array, log_density: Scalar, m: Array, *_: Array) -> Array:
            return -integrand(t, x.reshape(shape), log_density, m.reshape(shape))

        def field(t: Scalar, y: tuple[Array, ...]) -> tuple[Array, ...]:
            S, rate = _scale(process, t)
            state = tuple(part / S**k for part, k in zip(y, units, strict=False))
            terms = zip(y, _rates(flat, process, probes, state, t), units, strict=False)
            scaled = tuple(S**k * d + k * rate * part for part, d, k in terms)
            return *scaled, change(t, *state)

        S, _ = _scale(process, T)
        none = jax.eval_shape(change, T, *ends)
        start = *(S**k * end for end, k in zip(ends, units, strict=False)), jnp.zeros_like(none)
        (*y, integral), nfe, converged = self.solver(field, start, T, t)
        S, _ = _scale(process, t)
        x, log_density, m, *M = (part / S**k for part, k in zip(y, units, strict=True))
        M = M[0] if M else None
        found = ModelScore(log_density, m.reshape(shape), M, nfe, converged, x_T)
        finite = jnp.all(jnp.isfinite(m)) & jnp.isfinite(log_density)
        return x.reshape(shape), found.after(0, finite), integral


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


def _scale(process: AbstractProcess, t: Scalar) -> tuple[Scalar, Scalar]:
    """S_t = √(α² + σ²) and d log S / dt."""
    log_S, rate = jax.value_and_grad(
        lambda t: jnp.log(jnp.hypot(process.alpha(t), process.sigma(t)))
    )(t)
    return jnp.exp(log_S), rate


def _rates(
    score: ScoreFunction,
    process: AbstractProcess,
    probes: ProbeDraw,
    state: tuple[Array, ...],
    t: Scalar,
) -> tuple[Array, ...]:
    """d/dt of (x, log p, m), and of M where the state has it."""
    x, _, m, *M = state
    rate, half_g2 = process.drift_rate(t), 0.5 * process.g2(t)

    def of_m(x: Float[Array, " d"]) -> tuple[Float[Array, " d"], tuple]:
        record = derivatives(lambda x: score(x, t), x, probes, order=3)
        assert record.jvp is not None
        assert record.grad_quadratic is not None
        grad_h = rate * jnp.eye(x.size, dtype=x.dtype) - half_g2 * record.jvp.T
        grad_divergence = -half_g2 * jnp.sum(record.grad_quadratic, 0)
        dm = -grad_divergence - grad_h.T @ m
        return dm, (dm, rate * x - half_g2 * record.s, grad_h)

    if not M:
        _, (dm, h, grad_h) = of_m(x)
        return h, -jnp.trace(grad_h), dm
    dm_dx, (dm, h, grad_h) = jax.jacfwd(of_m, has_aux=True)(x)
    return h, -jnp.trace(grad_h), dm, dm_dx - grad_h.T @ M[0] - M[0] @ grad_h
