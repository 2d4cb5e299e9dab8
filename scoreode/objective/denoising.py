r"""Error-bounded denoising score matching of order 1, 2 and 3, side by side.

With x_t = α x_0 + σ ε and the lower orders held constant (a hat: no gradient flows through it),

    ℓ1 = σ ŝ1 + ε,    ℓ2 = σ² ŝ2 + I,    ℓ3 = (‖ℓ1‖² I − tr(ℓ2) I − 2 ℓ2) ℓ1,

the paper's objectives are, at one (x_0, ε, t) and before any weight,

    J1    = ‖σ s + ε‖²
    J2    = ‖σ² ∇s + I − ℓ1 ℓ1ᵀ‖²_F           (Theorem 3)
    J2,tr = (σ² tr ∇s + d − ‖ℓ1‖²)²            (Corollary 1)
    J3    = ‖σ³ ∇tr(∇s) + ℓ3‖²                 (Theorem 4)

    J = J1 + λ1 (J2 + J2,tr) + λ2 J3.

Each is written once, as a sum over probes v with weights w. Over the basis the sums are the exact
objectives. With one random probe they are the paper's estimates: J2's is unbiased, the other two
are upper bounds (Proposition 3), and bound the tighter the more probes are averaged inside the
square.

What is held constant: in J2 and J2,tr, ŝ1 (inside ℓ1); in J3, ŝ1 and ŝ2 (inside ℓ1, ℓ2). J1 has
no hat.
"""

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Batch, Example, Pairs, Scalar, ScoreFunction
from scoreode.calculus import AbstractProbe, ProbeDraw, Rademacher, derivatives
from scoreode.objective.weighting import AbstractWeighting, UniformTime
from scoreode.process import AbstractProcess
from scoreode.score import dropping, given

Flat = Float[Array, " d"]
AlongProbes = Float[Array, "k d"]
_DROPPING = 1  # what an example's key is folded with; the key itself draws its probes


def first(s: Flat, eps: Flat, sigma: Scalar) -> Scalar:
    """J1 = ‖σ s + ε‖²."""
    return jnp.sum((sigma * s + eps) ** 2)


def second(probes: ProbeDraw, s_v: AlongProbes, l1: Flat, sigma: Scalar) -> Scalar:
    """J2 = Σ_v w ‖σ² (∇s)v + v − (ℓ1·v) ℓ1‖², with `s_v` the (∇s)v."""
    v = probes.vectors
    residual = sigma**2 * s_v + v - jnp.outer(v @ l1, l1)
    return probes.weight * jnp.sum(residual**2)


def second_trace(probes: ProbeDraw, s_v: AlongProbes, l1: Flat, sigma: Scalar) -> Scalar:
    """J2,tr = (Σ_v w [σ² vᵀ(∇s)v + ‖v‖² − (ℓ1·v)²])²."""
    v = probes.vectors
    residual = sigma**2 * jnp.sum(v * s_v, 1) + jnp.sum(v**2, 1) - (v @ l1) ** 2
    return (probes.weight * jnp.sum(residual)) ** 2


def third(
    probes: ProbeDraw, grad_v: AlongProbes, s2_v: AlongProbes, l1: Flat, sigma: Scalar
) -> Scalar:
    """J3 = ‖Σ_v w [σ³ ∇(vᵀ(∇s)v) + (ℓ1·v)² ℓ1 − (vᵀℓ2 v) ℓ1 − 2 (ℓ1·v) ℓ2 v]‖².

    `grad_v` are the ∇(vᵀ(∇s)v); `s2_v` the ŝ2 v, held constant like ℓ1.
    """
    v = probes.vectors
    l2_v = sigma**2 * s2_v + v
    along = v @ l1
    towards_l1 = jnp.outer(along**2 - jnp.sum(v * l2_v, 1), l1)
    residual = sigma**3 * grad_v + towards_l1 - 2 * along[:, None] * l2_v
    return jnp.sum((probes.weight * jnp.sum(residual, 0)) ** 2)


class Terms(eqx.Module):
    """The objectives of one example or their means, unweighted; zero above the order."""

    first: Scalar
    second: Scalar
    second_trace: Scalar
    third: Scalar


class Ramp(eqx.Module):
    """A coefficient over training progress in [0, 1]: 0 before `start`, `value` from `full` on."""

    value: float
    start: float = 0.0
    full: float = 0.0

    def __call__(self, progress: Scalar) -> Scalar:
        if self.full <= self.start:
            return jnp.where(progress < self.start, 0.0, self.value)
        risen = (progress - self.start) / (self.full - self.start)
        return self.value * jnp.clip(jnp.where(progress > self.start, risen, 0.0), 0.0, 1.0)


class DenoisingScoreMatching(eqx.Module):
    """The mean over a batch of w(t) [J1/d^p1 + λ1 (J2/d^p2 + J2,tr/d^p2tr) + λ2 J3/d^p3].

    **Arguments:** `process`; `order` 1, 2 or 3; `lambda1` and `lambda2`, which may rise during
    training (where they are 0 nothing is computed for them); `weighting`; `probe` and `n_probes`
    an example; `every`, k: orders 2 and 3 on every k-th example of a batch; `powers`
    (p1, p2, p2tr, p3) of d, by default the paper's for images.

    **Cost** of a step relative to order 1, with one probe: about 2 (order 2) and 4 (order 3).
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

    def __check_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, not {self.order}")
        if self.n_probes < 1 or self.every < 1:
            raise ValueError("n_probes and every must be at least 1")

    def terms(
        self,
        model: ScoreFunction,
        x_0: Example,
        eps: Example,
        t: Scalar,
        key: PRNGKeyArray,
        order: int,
    ) -> Terms:
        """J1, J2, J2,tr, J3 at one (x_0, ε, t), unweighted and undivided."""
        sigma = self.process.sigma(t)
        x_t = self.process.diffuse(x_0, eps, t)
        probes = self.probe.draw(key, self.n_probes, x_0.size, x_0.dtype)
        record = derivatives(lambda x: model(x, t), x_t, probes, order)
        eps, zero = eps.ravel(), jnp.zeros((), x_0.dtype)
        J1, J2, J2_tr, J3 = first(record.s, eps, sigma), zero, zero, zero
        l1 = jax.lax.stop_gradient(sigma * record.s + eps)
        if record.jvp is not None:
            J2 = second(probes, record.jvp, l1, sigma)
            J2_tr = second_trace(probes, record.jvp, l1, sigma)
            if record.grad_quadratic is not None:
                s2_v = jax.lax.stop_gradient(record.jvp)
                J3 = third(probes, record.grad_quadratic, s2_v, l1, sigma)
        return Terms(J1, J2, J2_tr, J3)

    def __call__(
        self,
        model: ScoreFunction,
        batch: Batch,
        key: PRNGKeyArray,
        progress: Scalar,
    ) -> tuple[Scalar, tuple[dict[str, Scalar], Self]]:
        """A batch's loss; the weighted means of its terms; the objective to go on with.

        Of pairs (x, c) the model is trained as that of x given c. With t drawn adaptively, the
        objective to go on with has seen this batch's J1.
        """
        x, c = batch if isinstance(batch, Pairs) else (batch, None)
        n, d = x.shape[0], x[0].size
        key_t, key_eps, key_v = jr.split(key, 3)
        t, weight = self.weighting.sample(self.process, key_t, n)
        drawn = x, jr.normal(key_eps, x.shape, x.dtype), t, jr.split(key_v, n), c

        def terms_of(order: int, rows: Any) -> Terms:
            def of_one(x_0: Example, eps: Example, t: Scalar, key: PRNGKeyArray, c: Any) -> Terms:
                # One network with its dropped values for all derivatives of an example.
                score = dropping(given(model, c), jr.fold_in(key, _DROPPING))
                return self.terms(score, x_0, eps, t, key, order)

            return jax.vmap(of_one)(*jax.tree.map(lambda array: array[rows], drawn))

        def high() -> tuple[Array, Terms]:
            picked = slice(None, None, self.every)
            terms = terms_of(self.order, picked)
            rest = np.flatnonzero(np.arange(n) % self.every)
            J1 = terms.first
            if rest.size:
                J1 = jnp.zeros(n, J1.dtype).at[picked].set(J1)
                J1 = J1.at[rest].set(terms_of(1, rest).first)
            means = jax.tree.map(lambda term: jnp.mean(weight[picked] * term), terms)
            return J1, means

        def low() -> tuple[Array, Terms]:
            J1 = terms_of(1, slice(None)).first
            zero = jnp.zeros((), J1.dtype)
            return J1, Terms(zero, zero, zero, zero)

        lambda1, lambda2 = self.lambda1(progress), self.lambda2(progress)
        if self.order == 1:
            J1, means = low()
        elif min(self.lambda1.start, self.lambda2.start) <= 0:
            J1, means = high()
        else:
            J1, means = jax.lax.cond(lambda1 + lambda2 > 0, high, low)
        means = eqx.tree_at(lambda terms: terms.first, means, jnp.mean(weight * J1))
        p1, p2, p2tr, p3 = (float(d) ** power for power in self.powers)
        loss = (
            means.first / p1
            + lambda1 * (means.second / p2 + means.second_trace / p2tr)
            + lambda2 * means.third / p3
        )
        reported = {
            "loss": loss,
            "first": means.first,
            "second": means.second,
            "second_trace": means.second_trace,
            "third": means.third,
        }
        seen = self.weighting.updated(self.process, t, jax.lax.stop_gradient(J1 / d))
        return loss, (reported, eqx.tree_at(lambda loss: loss.weighting, self, seen))
