r"""Theorems 3 and 4 as ladders: how fast the high-order errors fall with the first-order error δ1.

Each rung of a ladder is a model ŝ1 with a smaller error than the last. The other models are trained
on it in succession: s2 on ŝ1, then s3 on ŝ1 and s2. At the minimum of their objectives

    ‖s2* − ∇²log q‖ = δ1²,    ‖s3* − ∇tr∇²log q‖ = 2 δ1³,    ‖Meng* − ∇²log q‖ ≈ 2 ‖∇log q‖ δ1:

slopes 2, 3 and 1 against δ1 on logarithmic axes. If s3 is trained on ŝ2 = ∇ŝ1 instead, whose error
is of first order in δ1, the error of s3 is of second order: slope 2. Trained networks have a
training error of their own; the theorems bound their error by the training error plus δ1² and the
like.

All errors are in units of the noise, as in the objectives: an error of order k is multiplied by
σ_t^k.
"""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from scoreode._typing import Scalar, ScoreFunction
from scoreode.objective.separate import AbstractSeparate, Meng, Second, Third
from scoreode.objective.weighting import UniformTime
from scoreode.score import SecondScoreModel, ThirdScoreModel
from scoreode.theory.minimisers import Errors, Local, Minimisers, Real
from scoreode.theory.oracle import MixtureOracle, Vector
from scoreode.theory.wrong import Wrong
from scoreode.train import Budget, Optimiser, TrainState, train

Points = Float[Array, "n d"]
Times = Float[Array, " n"]


def noisy_points(oracle: MixtureOracle, key: PRNGKeyArray, n: int) -> tuple[Points, Times]:
    """n draws of (x_t, t), with t uniform over [t_min, T]."""
    key_t, key_x, key_eps = jr.split(key, 3)
    t, _ = UniformTime().sample(oracle.process, key_t, n)
    x_0 = oracle.sample(key_x, n)
    return jax.vmap(oracle.process.diffuse)(x_0, jr.normal(key_eps, x_0.shape, x_0.dtype), t), t


@eqx.filter_jit
def error_ladder(
    oracle: MixtureOracle,
    wrong: Wrong,
    sizes: Float[Array, " sizes"],
    x: Points,
    t: Times,
    jacobian: bool = False,
) -> Errors:
    """Root mean squares over points of δ1, the minimisers' errors and their bounds, for each rung.

    **Arguments:** `wrong`, ŝ1: the oracle plus an error; `sizes` of the error, one per rung; points
    `x` at times `t`, such as `noisy_points`; `jacobian`: train s3 on ŝ2 = ∇ŝ1, as if one network
    were matched to all orders, instead of on s2*.

    **Returns:** `Errors` of shape (sizes,), in units of the noise. They are differences from the
    truth, so small sizes need float64.
    """

    def rung(size: Scalar) -> Errors:
        score = _resize(wrong, size)
        truth = Minimisers(oracle, score, Jacobian(score) if jacobian else None)
        return jax.tree.map(_rms, jax.vmap(lambda x, t: _in_noise(truth, x, t).errors())(x, t))

    return jax.lax.map(rung, sizes)


def slopes(errors: Errors) -> Errors:
    """The slope of every entry against δ1 on logarithmic axes, by least squares."""
    log_delta1 = jnp.log(errors.delta1)
    centred = log_delta1 - jnp.mean(log_delta1)
    return jax.tree.map(lambda e: centred @ jnp.log(e) / (centred @ centred), errors)


class Jacobian(eqx.Module):
    """The Jacobian ∇s(x, t) of a score, shape (d, d). **Cost:** one evaluation with d tangents."""

    score: ScoreFunction

    def __call__(self, x: Vector, t: Scalar) -> Float[Array, "d d"]:
        return jax.jacfwd(self.score)(x, t)


class Trained(eqx.Module):
    """A trained model's distance from its minimiser (`training`) and from the truth (`error`).

    `bound` is the training error plus the theorem's bound on the minimiser's error. `ratio` is the
    largest error/bound over points, at most 1. For Meng's model `bound` uses the theorem of
    `Second`, which does not apply to it.
    """

    training: Real
    error: Real
    bound: Real
    ratio: Real

    @classmethod
    def at_point(
        cls, output: Array, minimum: Array, truth: Array, theorem_bound: Scalar
    ) -> "Trained":
        """The distances at one point."""
        training, error = jnp.linalg.norm(output - minimum), jnp.linalg.norm(output - truth)
        bound = training + theorem_bound
        return cls(training, error, bound, error / bound)

    def summary(self) -> "Trained":
        """Root mean squares over points, and the largest ratio."""
        training, error, bound = map(_rms, (self.training, self.error, self.bound))
        return Trained(training, error, bound, jnp.max(self.ratio))


class Rung(eqx.Module):
    """The results for one ŝ1: δ1, and the errors of the models trained on it."""

    delta1: Real
    second: Trained
    third: Trained
    meng: Trained


def trained_ladder(
    oracle: MixtureOracle,
    wrong: Wrong,
    sizes: Iterable[float],
    second: SecondScoreModel,
    third: ThirdScoreModel,
    optimiser: Optimiser,
    steps: int,
    key: PRNGKeyArray,
    x: Points,
    t: Times,
) -> list[Rung]:
    """The ladder for networks: s2 trained by `Second` and by `Meng`, s3 by `Third` on the first s2.

    **Arguments:** as for `error_ladder`; `second` and `third`, the untrained models from which
    every rung starts; `optimiser` and `steps` of each training; `key`.

    **Cost:** three trainings per rung, and three compilations.
    """
    process = oracle.process

    def fit(model: Any, objective: AbstractSeparate) -> Any:
        state = TrainState.initial(model, objective, optimiser)
        *_, last = train(state, oracle.sample, optimiser, Budget(steps=steps), key)
        return last.state.ema

    rungs = []
    for size in sizes:
        score = _resize(wrong, jnp.asarray(size, x.dtype))
        s2 = fit(second, Second(process, score))
        s2_meng = fit(second, Meng(process, score))
        s3 = fit(third, Third(process, score, s2))
        rungs.append(_rung(Minimisers(oracle, score, s2), s2, s2_meng, s3, x, t))
    return rungs


@eqx.filter_jit
def _rung(
    truth: Minimisers,
    s2: SecondScoreModel,
    s2_meng: SecondScoreModel,
    s3: ThirdScoreModel,
    x: Points,
    t: Times,
) -> Rung:
    def at(x: Vector, t: Scalar) -> Rung:
        sigma, local = truth.oracle.process.sigma(t), _in_noise(truth, x, t)
        e = local.errors()
        return Rung(
            e.delta1,
            Trained.at_point(sigma**2 * s2(x, t), local.second, local.H, e.second_bound),
            Trained.at_point(sigma**3 * s3(x, t), local.third, local.T, e.third_bound),
            Trained.at_point(sigma**2 * s2_meng(x, t), local.meng, local.H, e.second_bound),
        )

    points = jax.vmap(at)(x, t)
    models = (points.second, points.third, points.meng)
    return Rung(_rms(points.delta1), *(model.summary() for model in models))


def _resize(wrong: Wrong, size: Scalar) -> Wrong:
    return eqx.tree_at(lambda wrong: wrong.size, wrong, size)


def _in_noise(truth: Minimisers, x: Vector, t: Scalar) -> Local:
    return truth.at(x, t).in_units_of(truth.oracle.process.sigma(t))


def _rms(values: Float[Array, " n"]) -> Scalar:
    return jnp.sqrt(jnp.mean(values**2))
