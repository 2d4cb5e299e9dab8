r"""Error-bounded denoising score matching of order 1, 2 and 3, side by side.

With x_t = α x_0 + σ ε and the lower orders held constant (a hat: no gradient flows through it),

    ℓ1 = σ ŝ1 + ε,    ℓ2 = σ² ŝ2 + I,    ℓ3 = (‖ℓ1‖² I − tr(ℓ2) I − 2 ℓ2) ℓ1,

the paper's unweighted objectives at one (x_0, ε, t) are

    J1    = ‖σ s + ε‖²
    J2    = ‖σ² ∇s + I − ℓ1 ℓ1ᵀ‖²_F           (Theorem 3)
    J2,tr = (σ² tr ∇s + d − ‖ℓ1‖²)²            (Corollary 1)
    J3    = ‖σ³ ∇tr(∇s) + ℓ3‖²                 (Theorem 4)

    J = J1 + λ1 (J2 + J2,tr) + λ2 J3,

where J2,tr may have a coefficient of its own.

In place of one draw's ε, ℓ1 ℓ1ᵀ and ‖ℓ1‖² ℓ1, the targets may be their posterior expectations over
reference rows; see `objective.targets`. Then ε stands for ē, and C and K are not 0.

Each is implemented once, as a sum over probes v with weights w. The basis as probes gives the exact
objectives. One random probe gives the paper's estimates: J2's is unbiased; those of J2,tr and J3
are upper bounds in expectation (Proposition 3), which tighten with the number of probes averaged
inside the square.

Held constant are ŝ1 in J2 and J2,tr (inside ℓ1), and ŝ1 and ŝ2 in J3 (inside ℓ1 and ℓ2). J1 has no
hat.
"""

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Batch, Example, Pairs, Referenced, Scalar, ScoreFunction
from scoreode.calculus import AbstractProbe, ProbeDraw, Rademacher, derivatives
from scoreode.objective.targets import (
    AbstractNoise,
    AbstractTargets,
    Cumulants,
    Diffused,
    Draw,
    Independent,
    Reference,
    of_draw,
)
from scoreode.objective.weighting import AbstractWeighting, UniformTime
from scoreode.process import AbstractProcess
from scoreode.score import condition_on, with_dropout

Flat = Float[Array, " d"]
AlongProbes = Float[Array, "k d"]
_DROPPING = 1  # folded into an example's key for dropout; the key itself draws the probes


def second(
    probes: ProbeDraw, s_v: AlongProbes, l1: Flat, spread: AlongProbes | Scalar, sigma: Scalar
) -> Scalar:
    """J2 = Σ_v w ‖σ² (∇s)v + v − (ℓ1·v) ℓ1 − C v‖², where `s_v` is (∇s)v and `spread` C v."""
    v = probes.vectors
    residual = sigma**2 * s_v + v - jnp.outer(v @ l1, l1) - spread
    return probes.weight * jnp.sum(residual**2)


def second_trace(
    probes: ProbeDraw, s_v: AlongProbes, l1: Flat, spread: AlongProbes | Scalar, sigma: Scalar
) -> Scalar:
    """J2,tr = (Σ_v w [σ² vᵀ(∇s)v + ‖v‖² − (ℓ1·v)² − vᵀC v])²."""
    v = probes.vectors
    residual = sigma**2 * jnp.sum(v * s_v, 1) + jnp.sum(v * (v - spread), 1) - (v @ l1) ** 2
    return (probes.weight * jnp.sum(residual)) ** 2


def third(
    probes: ProbeDraw,
    grad_v: AlongProbes,
    s2_v: AlongProbes,
    l1: Flat,
    cumulants: Cumulants,
    sigma: Scalar,
) -> Scalar:
    """J3 = ‖Σ_v w [σ³ ∇(vᵀ(∇s)v) + a² ℓ1 − (vᵀL v) ℓ1 − 2 a L v + K(v)]‖², a = ℓ1·v, L = ℓ2 − C.

    `grad_v` is ∇(vᵀ(∇s)v); `s2_v` is ŝ2 v, held constant like ℓ1.
    """
    v = probes.vectors
    L_v = sigma**2 * s2_v + v - cumulants.second
    along = v @ l1
    towards_l1 = jnp.outer(along**2 - jnp.sum(v * L_v, 1), l1)
    residual = sigma**3 * grad_v + towards_l1 - 2 * along[:, None] * L_v + cumulants.third
    return jnp.sum((probes.weight * jnp.sum(residual, 0)) ** 2)


class Terms(eqx.Module):
    """The objectives' terms for one example, or their means; zero above the order."""

    first: Scalar
    second: Scalar
    second_trace: Scalar
    third: Scalar


class Ramp(eqx.Module):
    """A coefficient as a function of training progress in [0, 1].

    It is 0 before `start`, `value` from `full` on, and linear between.
    """

    value: float
    start: float = 0.0
    full: float = 0.0

    def __call__(self, progress: Scalar) -> Scalar:
        if self.full <= self.start:
            return jnp.where(progress < self.start, 0.0, self.value)
        share = (progress - self.start) / (self.full - self.start)
        return self.value * jnp.clip(jnp.where(progress > self.start, share, 0.0), 0.0, 1.0)


class DenoisingScoreMatching(eqx.Module):
    """The mean over a batch of w(t) [J1/d^p1 + λ1 (J2/d^p2 + J2,tr/d^p2tr) + λ2 J3/d^p3].

    **Arguments:** `process`; `order`, 1, 2 or 3; `lambda1` and `lambda2`, which may rise during
    training (before `begins`, order 1 gives the same loss for less); `lambda1_trace`, of J2,tr
    (None: `lambda1`); `weighting`; `probe`; `n_probes` per
    example; `every`, k: evaluate orders 2 and 3 on every k-th example of a batch; `powers`
    (p1, p2, p2tr, p3) of d, by default the paper's for images; `targets`, ε or its posterior;
    `noise`, of independent examples or of pairs.

    **Cost:** with one probe, a step takes about 2 (order 2) and 4 (order 3) times as long as with
    order 1.
    """

    process: AbstractProcess
    order: int = 1
    lambda1: Ramp = Ramp(1.0)
    lambda2: Ramp = Ramp(1.0)
    weighting: AbstractWeighting = UniformTime()
    probe: AbstractProbe = Rademacher()
    n_probes: int = 1
    every: int = 1
    powers: tuple[int, int, int, int] = (1, 2, 2, 3)
    targets: AbstractTargets = Draw()
    noise: AbstractNoise = Independent()
    lambda1_trace: Ramp | None = None

    def __check_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, not {self.order}")
        if self.n_probes < 1 or self.every < 1:
            raise ValueError("n_probes and every must be at least 1")

    @property
    def begins(self) -> float:
        """The progress from which the first of the coefficients of orders 2 and 3 is above 0."""
        return min((ramp.start for ramp in self._ramps if ramp.value > 0), default=1.0)

    @property
    def _ramps(self) -> tuple[Ramp, Ramp, Ramp]:
        """The coefficients of J2, J2,tr and J3."""
        return self.lambda1, self.lambda1_trace or self.lambda1, self.lambda2

    @property
    def n_reference(self) -> int:
        """Rows that a step draws beside its batch."""
        return self.targets.n_reference

    def terms(
        self,
        model: ScoreFunction,
        x_0: Example,
        eps: Example,
        t: Scalar,
        key: PRNGKeyArray,
        order: int,
        reference: Reference | None = None,
    ) -> Terms:
        """J1, J2, J2,tr, J3 at one (x_0, ε, t), unweighted and not divided by powers of d.

        **Arguments:** `reference`, other rows for the targets (None: ε is the target).
        """
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        x_t = self.process.diffuse(x_0, eps, t)
        probes = self.probe.draw(key, self.n_probes, x_0.size, x_0.dtype)
        record = derivatives(lambda x: model(x, t), x_t, probes, order)
        eps, zero = eps.ravel(), jnp.zeros((), x_0.dtype)
        known = of_draw(eps)
        if reference is not None:
            at = Diffused(x_0.ravel(), eps, alpha / sigma)
            known = self.targets.cumulants(at, reference, probes, order)
        residual = sigma * record.s + known.mean
        J1, J2, J2_tr, J3 = jnp.sum(residual**2), zero, zero, zero
        l1 = jax.lax.stop_gradient(residual)
        if record.jvp is not None:
            J2 = second(probes, record.jvp, l1, known.second, sigma)
            J2_tr = second_trace(probes, record.jvp, l1, known.second, sigma)
            if record.grad_quadratic is not None:
                s2_v = jax.lax.stop_gradient(record.jvp)
                J3 = third(probes, record.grad_quadratic, s2_v, l1, known, sigma)
        return Terms(J1, J2, J2_tr, J3)

    def __call__(
        self,
        model: ScoreFunction,
        batch: Batch | Referenced,
        key: PRNGKeyArray,
        progress: Scalar,
    ) -> tuple[Scalar, tuple[dict[str, Scalar], Self]]:
        """The loss of a batch, the weighted means of its terms, and the updated objective.

        For pairs (x, c), the model is conditional: x given c. Rows beside the batch are reference
        rows for the targets. An adaptive weighting is updated with this batch's J1.
        """
        batch, others = batch if isinstance(batch, Referenced) else (batch, None)
        x, c = batch if isinstance(batch, Pairs) else (batch, None)
        n, d = x.shape[0], x[0].size
        key_t, key_eps, key_v = jr.split(key, 3)
        row, eps, t, weight = self.noise.draw(self.process, self.weighting, (key_t, key_eps), x)
        examples = row, eps, t, jr.split(key_v, n)
        reference_of = None if others is None else Reference.of(others)

        def terms_at(order: int, which: Any) -> Terms:
            def example_terms(row: Array, eps: Example, t: Scalar, key: PRNGKeyArray) -> Terms:
                c_row = None if c is None else c[row]
                # One dropout mask for all derivatives at an example.
                score = with_dropout(condition_on(model, c_row), jr.fold_in(key, _DROPPING))
                reference = None if reference_of is None else reference_of(c_row)
                return self.terms(score, x[row], eps, t, key, order, reference)

            return jax.vmap(example_terms)(*jax.tree.map(lambda array: array[which], examples))

        def high() -> tuple[Array, Terms]:
            subset = slice(None, None, self.every)
            terms = terms_at(self.order, subset)
            rest = np.flatnonzero(np.arange(n) % self.every)
            J1 = terms.first
            if rest.size:
                J1 = jnp.zeros(n, J1.dtype).at[subset].set(J1)
                J1 = J1.at[rest].set(terms_at(1, rest).first)
            means = jax.tree.map(lambda term: jnp.mean(weight[subset] * term), terms)
            return J1, means

        def low() -> tuple[Array, Terms]:
            J1 = terms_at(1, slice(None)).first
            zero = jnp.zeros((), J1.dtype)
            return J1, Terms(zero, zero, zero, zero)

        lambda1, trace, lambda2 = (ramp(progress) for ramp in self._ramps)
        J1, means = low() if self.order == 1 else high()
        means = eqx.tree_at(lambda terms: terms.first, means, jnp.mean(weight * J1))
        p1, p2, p2tr, p3 = (float(d) ** power for power in self.powers)
        loss = (
            means.first / p1
            + lambda1 * means.second / p2
            + trace * means.second_trace / p2tr
            + lambda2 * means.third / p3
        )
        values = {
            "loss": loss,
            "first": means.first,
            "second": means.second,
            "second_trace": means.second_trace,
            "third": means.third,
        }
        weighting = self.weighting.update(self.process, t, jax.lax.stop_gradient(J1 / d))
        return loss, (values, eqx.tree_at(lambda loss: loss.weighting, self, weighting))
