r"""Closed-form minimisers of the separate high-order objectives, for lower orders with errors.

At x_t let s = ∇log q_t, H = ∇²log q_t, T = ∇tr∇²log q_t, and let the given models have the errors
δ = ŝ1 − s and Δ = ŝ2 − H. The noise minus its posterior mean, n = ε + σ s, has the moments

    E[n | x_t] = 0,    E[n nᵀ | x_t] = σ² H + I,    E[‖n‖² n | x_t] = −σ³ T

(Tweedie's formulas), and ℓ1 = n + σ δ. The minimiser of a mean square is the posterior mean of its
target:

    s2*   = (E[ℓ1 ℓ1ᵀ] − I) / σ²               = H + δ δᵀ
    s2tr* = (E‖ℓ1‖² − d) / σ²                  = tr H + ‖δ‖²
    Meng* = (E[ε εᵀ] − I) / σ² − ŝ1 ŝ1ᵀ        = H + s sᵀ − ŝ1 ŝ1ᵀ.

For order 3, ℓ2 = σ² (H + Δ) + I is known given x_t, and

    E[‖ℓ1‖² ℓ1]            = −σ³ T + σ (σ² tr H + d) δ + 2 σ (σ² H + I) δ + σ³ ‖δ‖² δ
    E[(tr ℓ2 + 2 ℓ2) ℓ1]   = σ (σ² (tr H + τ) + d) δ + 2 σ (σ² (H + Δ) + I) δ,

where τ is the error of the model of tr ŝ2: tr Δ, or the error of a separate trace model. Hence

    s3* = −(E[‖ℓ1‖² ℓ1] − E[(tr ℓ2 + 2 ℓ2) ℓ1]) / σ³ = T + (τ − ‖δ‖²) δ + 2 Δ δ.

With δ1 = ‖δ‖, δ2 = ‖Δ‖_F and δ2,tr = |τ|, the errors of the minimisers are therefore

    ‖s2* − H‖_F    = δ1²                                    Theorem 3, with equality
    |s2tr* − tr H| = δ1²                                    Corollary 1, with equality
    ‖s3* − T‖      ≤ (δ1² + δ2,tr + 2 δ2) δ1                Theorem 4
    ‖Meng* − H‖_F  = ‖u δᵀ + δ uᵀ‖_F,   u = (s + ŝ1) / 2    Proposition 2.

The bound of Theorem 4 is sharp: Δ = −c δ δᵀ with c > 0 attains it. The paper's poster prints δ1²
for the last factor, which must be a misprint. Under a change of units of x, T scales as 1/x³ but
the first term of the printed bound as 1/x⁴; and for δ1 < 1 the error exceeds the printed bound, for
Δ = 0 by the factor 1/δ1. For ŝ2 = s2*, models trained in succession, the error is
‖s3* − T‖ = 2 δ1³.

Meng's error lies between √2 ‖u‖ δ1 and 2 ‖u‖ δ1. It is unbounded, as ‖∇log q_t‖ is.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from scoreode._typing import Scalar, ScoreFunction
from scoreode.objective.separate import MatrixFunction, TraceFunction
from scoreode.theory.oracle import MixtureOracle, Vector

Matrix = Float[Array, "d d"]
Real = Float[Array, "..."]


class Errors(eqx.Module):
    """δ1, δ2, δ2,tr of the given models, the minimisers' errors, and the bounds on these.

    Norms are Euclidean or Frobenius. An error of order k has the units of x to the power −k.
    """

    delta1: Real
    delta2: Real
    delta2_trace: Real
    second: Real
    second_trace: Real
    second_bound: Real
    third: Real
    third_bound: Real
    third_printed: Real
    meng: Real
    meng_bound: Real


class Local(eqx.Module):
    """The minimisers of the separate objectives at one (x, t), from the truth and the errors.

    **Arguments:** `s`, `H`, `T`, the derivatives of log q_t; `delta`, δ = ŝ1 − s; `Delta`,
    Δ = ŝ2 − H; `tau`, τ, the error of the model of tr ŝ2.
    """

    s: Vector
    H: Matrix
    T: Vector
    delta: Vector
    Delta: Matrix
    tau: Scalar

    @property
    def second(self) -> Matrix:
        """s2* = H + δ δᵀ."""
        return self.H + jnp.outer(self.delta, self.delta)

    @property
    def second_trace(self) -> Scalar:
        """s2tr* = tr H + ‖δ‖²."""
        return jnp.trace(self.H) + jnp.sum(self.delta**2)

    @property
    def third(self) -> Vector:
        """s3* = T + (τ − ‖δ‖²) δ + 2 Δ δ."""
        along = self.tau - jnp.sum(self.delta**2)
        return self.T + along * self.delta + 2 * self.Delta @ self.delta

    @property
    def meng(self) -> Matrix:
        """Meng* = H + s sᵀ − ŝ1 ŝ1ᵀ."""
        s1 = self.s + self.delta
        return self.H + jnp.outer(self.s, self.s) - jnp.outer(s1, s1)

    def in_units_of(self, length: Scalar) -> "Local":
        """The values in units of this length for x: derivatives of order k times length^k."""
        first, second, third = length, length**2, length**3
        return Local(
            s=first * self.s,
            H=second * self.H,
            T=third * self.T,
            delta=first * self.delta,
            Delta=second * self.Delta,
            tau=second * self.tau,
        )

    def errors(self) -> Errors:
        """The errors of the given models and of the minimisers, and the theorems' bounds."""
        norm = jnp.linalg.norm
        delta1, delta2, delta2_trace = norm(self.delta), norm(self.Delta), jnp.abs(self.tau)
        factor = delta1**2 + delta2_trace + 2 * delta2
        return Errors(
            delta1=delta1,
            delta2=delta2,
            delta2_trace=delta2_trace,
            second=norm(self.second - self.H),
            second_trace=jnp.abs(self.second_trace - jnp.trace(self.H)),
            second_bound=delta1**2,
            third=norm(self.third - self.T),
            third_bound=factor * delta1,
            third_printed=factor * delta1**2,
            meng=norm(self.meng - self.H),
            meng_bound=2 * norm(self.s + self.delta / 2) * delta1,
        )


class Minimisers(eqx.Module):
    """The minimisers of the separate objectives as functions of (x, t), for data from a mixture.

    **Arguments:** `oracle`, the truth; `score`, ŝ1; `hessian`, ŝ2 (None: s2*, as for models trained
    in succession); `trace`, the model of tr ŝ2 (None: the trace of ŝ2).

    **Cost:** for each, one evaluation of the oracle's derivatives and of every given model.
    """

    oracle: MixtureOracle
    score: ScoreFunction
    hessian: MatrixFunction | None = None
    trace: TraceFunction | None = None

    def at(self, x: Vector, t: Scalar) -> Local:
        """All minimisers at one point."""
        s, H = self.oracle(x, t), self.oracle.hessian(x, t)
        delta = self.score(x, t) - s
        Delta = jnp.outer(delta, delta) if self.hessian is None else self.hessian(x, t) - H
        tau = jnp.trace(Delta) if self.trace is None else self.trace(x, t) - jnp.trace(H)
        return Local(s, H, self.oracle.grad_trace_hessian(x, t), delta, Delta, tau)

    def second(self, x: Vector, t: Scalar) -> Matrix:
        """s2*, the minimiser of `Second`."""
        return self.at(x, t).second

    def second_trace(self, x: Vector, t: Scalar) -> Scalar:
        """s2tr*, the minimiser of `SecondTrace`."""
        return self.at(x, t).second_trace

    def third(self, x: Vector, t: Scalar) -> Vector:
        """s3*, the minimiser of `Third`."""
        return self.at(x, t).third

    def meng(self, x: Vector, t: Scalar) -> Matrix:
        """Meng*, the minimiser of `Meng`."""
        return self.at(x, t).meng
