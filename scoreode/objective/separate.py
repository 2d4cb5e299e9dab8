r"""Objectives for separate high-order score models, given ŝ1 (and ŝ2): the paper's, and Meng's.

With x_t = α x_0 + σ ε, fixed models ŝ1 ≈ ∇log q_t and ŝ2 ≈ ∇²log q_t, and

    ℓ1 = σ ŝ1 + ε,    ℓ2 = σ² ŝ2 + I,    ℓ3 = (‖ℓ1‖² I − tr(ℓ2) I − 2 ℓ2) ℓ1,

the paper trains models s2, s2^tr, s3 of the second and third derivatives of log q_t with

    Second        ‖σ² s2 + I − ℓ1 ℓ1ᵀ‖²_F               (Theorem 3)
    SecondTrace   |σ² s2^tr + d − ‖ℓ1‖²|²               (Corollary 1)
    Third         ‖σ³ s3 + ℓ3‖²                         (Theorem 4)

Meng et al. (2021) minimise ‖s2 − ∇²log q_0t − ∇log q_0t ∇log q_0tᵀ + ŝ1 ŝ1ᵀ‖²_F. As
∇log q_0t = −ε/σ and ∇²log q_0t = −I/σ², this is in the same units

    Meng          ‖σ² s2 + I − ε εᵀ + σ² ŝ1 ŝ1ᵀ‖²_F     (Proposition 2).

`DenoisingScoreMatching` trains one network and takes its derivatives as the high-order models. The
objectives here train one network per order and need no probes and no derivatives of networks.
"""

import abc
from collections.abc import Callable
from typing import ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Example, Scalar, ScoreFunction
from scoreode.objective.weighting import AbstractWeighting, UniformTime
from scoreode.process import AbstractProcess

Flat = Float[Array, " d"]
Matrix = Float[Array, "d d"]
MatrixFunction = Callable[[Example, Scalar], Matrix]
TraceFunction = Callable[[Example, Scalar], Scalar]


class AbstractSeparate(eqx.Module):
    """The mean over a batch of w(t) ‖residual‖² / d^order, for one model and fixed lower orders.

    **Arguments:** `process`; `score`, ŝ1; `weighting`.
    """

    process: AbstractProcess
    score: ScoreFunction
    weighting: AbstractWeighting = eqx.field(default=UniformTime(), kw_only=True)
    order: ClassVar[int]

    @abc.abstractmethod
    def residual(self, output: Array, x_t: Example, eps: Flat, t: Scalar) -> Array:
        """The residual, if the model's output at (x_t, t) is `output`."""

    def term(self, model: Callable, x_0: Example, eps: Example, t: Scalar) -> Scalar:
        """‖residual‖² at one (x_0, ε, t), unweighted and not divided by d^order.

        **Cost:** one evaluation of the model and of every fixed model.
        """
        x_t = self.process.diffuse(x_0, eps, t)
        return jnp.sum(self.residual(model(x_t, t), x_t, eps.ravel(), t) ** 2)

    def l1(self, x_t: Example, eps: Flat, t: Scalar) -> Flat:
        """ℓ1 = σ ŝ1 + ε, held constant."""
        return jax.lax.stop_gradient(self.process.sigma(t) * self.score(x_t, t).ravel() + eps)

    def __call__(
        self,
        model: Callable,
        x: Float[Array, "n ..."],
        key: PRNGKeyArray,
        progress: Scalar,  # noqa: ARG002 (no coefficient depends on it)
    ) -> tuple[Scalar, tuple[dict[str, Scalar], Self]]:
        """The loss of a batch, the loss under its name, and the updated objective."""
        n, d = x.shape[0], x[0].size
        key_t, key_eps = jr.split(key)
        t, weight = self.weighting.sample(self.process, key_t, n)
        eps = jr.normal(key_eps, x.shape, x.dtype)
        batch_terms = jax.vmap(lambda x_0, eps, t: self.term(model, x_0, eps, t))
        terms = batch_terms(x, eps, t) / d**self.order
        loss = jnp.mean(weight * terms)
        weighting = self.weighting.update(self.process, t, jax.lax.stop_gradient(terms))
        return loss, ({"loss": loss}, eqx.tree_at(lambda loss: loss.weighting, self, weighting))


class Second(AbstractSeparate):
    """‖σ² s2 + I − ℓ1 ℓ1ᵀ‖²_F, for s2(x, t) of shape (d, d) (Theorem 3)."""

    order: ClassVar[int] = 2

    def residual(self, output: Matrix, x_t: Example, eps: Flat, t: Scalar) -> Matrix:
        l1 = self.l1(x_t, eps, t)
        return self.process.sigma(t) ** 2 * output + _eye(eps) - jnp.outer(l1, l1)


class SecondTrace(AbstractSeparate):
    """|σ² s2^tr + d − ‖ℓ1‖²|², for s2^tr(x, t) a scalar (Corollary 1)."""

    order: ClassVar[int] = 2

    def residual(self, output: Scalar, x_t: Example, eps: Flat, t: Scalar) -> Scalar:
        l1 = self.l1(x_t, eps, t)
        return self.process.sigma(t) ** 2 * output + eps.size - jnp.sum(l1**2)


class Third(AbstractSeparate):
    """‖σ³ s3 + ℓ3‖², for s3(x, t) of the shape of x (Theorem 4).

    **Arguments:** those of `AbstractSeparate`; `hessian`, ŝ2; `trace`, a model of tr ŝ2 for tr(ℓ2),
    such as one trained by `SecondTrace` (None: the trace of ŝ2).
    """

    hessian: MatrixFunction
    trace: TraceFunction | None = None
    order: ClassVar[int] = 3

    def residual(self, output: Example, x_t: Example, eps: Flat, t: Scalar) -> Flat:
        sigma, l1 = self.process.sigma(t), self.l1(x_t, eps, t)
        s2 = self.hessian(x_t, t)
        trace = jnp.trace(s2) if self.trace is None else self.trace(x_t, t)
        l2, trace_l2 = jax.lax.stop_gradient(
            (sigma**2 * s2 + _eye(eps), sigma**2 * trace + eps.size)
        )
        l3 = (jnp.sum(l1**2) - trace_l2) * l1 - 2 * l2 @ l1
        return sigma**3 * output.ravel() + l3


class Meng(AbstractSeparate):
    """‖σ² s2 + I − ε εᵀ + σ² ŝ1 ŝ1ᵀ‖²_F, for s2(x, t) of shape (d, d) (Meng et al. 2021)."""

    order: ClassVar[int] = 2

    def residual(self, output: Matrix, x_t: Example, eps: Flat, t: Scalar) -> Matrix:
        sigma = self.process.sigma(t)
        scaled = jax.lax.stop_gradient(sigma * self.score(x_t, t).ravel())
        target = jnp.outer(eps, eps) - jnp.outer(scaled, scaled)
        return sigma**2 * output + _eye(eps) - target


def _eye(eps: Flat) -> Matrix:
    return jnp.eye(eps.size, dtype=eps.dtype)
