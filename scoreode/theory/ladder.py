r"""Theorems 3 and 4 as ladders: how the errors of high orders fall with δ1, the error of the first.

A ladder's rungs are models ŝ1 of shrinking error, everything else being trained on them, in
succession: s2 on ŝ1, then s3 on ŝ1 and s2. Trained to the end,

    ‖s2* − ∇²log q‖ = δ1²,    ‖s3* − ∇tr∇²log q‖ = 2 δ1³,    ‖Meng* − ∇²log q‖ ≈ 2 ‖∇log q‖ δ1:

slopes 2, 3 and 1 against δ1 on logarithmic axes. Where s3 is trained on ŝ2 = ∇ŝ1 instead, whose
error is of first order as ŝ1's is, its own is of second: slope 2. Networks trained for a while stop
at their own training error, beside which the theorems allow δ1² and the like, and no more.

All is in units of the noise, as the objectives are: an error of order k is multiplied by σ_t^k.
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
    """n draws of (x_t, t), t uniform over the process's times."""
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
    """The root mean squares over points of δ1, the minimisers' errors and their bounds.

    **Arguments:** `wrong`, ŝ1, the oracle with an error; its `sizes`, one a rung; points `x` at
    times `t`, such as `noisy_points`; `jacobian`: whether s3 is trained on ŝ2 = ∇ŝ1, as where one
    network is matched to all orders, and not on s2*.

    **Returns:** `Errors` of shape (sizes,), in units of the noise. Being differences from the
    truth, they need float64 where sizes are small.
    """

    def rung(size: Scalar) -> Errors:
        score = _resized(wrong, size)
        truth = Minimisers(oracle, score, Jacobian(score) if jacobian else None)
        return jax.tree.map(_rms, jax.vmap(lambda x, t: _in_noise(truth, x, t).errors())(x, t))

    return jax.lax.map(rung, sizes)


def slopes(errors: Errors) -> Errors:
    """Of every entry against δ1 by least squares, both in logarithms."""
    log_delta1 = jnp.log(errors.delta1)
    centred = log_delta1 - jnp.mean(log_delta1)
    return jax.tree.map(lambda e: centred @ jnp.log(e) / (centred @ centred), errors)


class Jacobian(eqx.Module):
    """∇s(x, t), shape (d, d), of a score. **Cost:** one evaluation with d tangents."""

    score: ScoreFunction

    def __call__(self, x: Vector, t: Scalar) -> Float[Array, "d d"]:
        return jax.jacfwd(self.score)(x, t)


class Trained(eqx.Module):
    """A trained model's distance from its minimiser (`training`) and from the truth (`error`).

    `bound` is the training error plus what its theorem allows for the given models' errors, and
    `ratio` the largest error/bound at any point: at most 1. For Meng's model the allowance is that
    of `Second`, which nothing says holds for it.
    """

    training: Real
    error: Real
    bound: Real
    ratio: Real

    @classmethod
    def compared(cls, output: Array, minimum: Array, truth: Array, allowed: Scalar) -> "Trained":
        """At one point."""
        training, error = jnp.linalg.norm(output - minimum), jnp.linalg.norm(output - truth)
        bound = training + allowed
        return cls(training, error, bound, error / bound)

    def summary(self) -> "Trained":
        """Root mean squares over points, and the largest ratio."""
        training, error, bound = map(_rms, (self.training, self.error, self.bound))
        return Trained(training, error, bound, jnp.max(self.ratio))


class Rung(eqx.Module):
    """δ1, and the models trained on this ŝ1."""

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
    """The ladder for networks: s2 by `Second` and by `Meng`, and s3 by `Third` on the first.

    **Arguments:** as for `error_ladder`; `second` and `third`, untrained, from which every rung
    starts; `steps` of training for each.

    **Cost:** three trainings a rung; three compilations in all.
    """
    process = oracle.process

    def trained(model: Any, objective: AbstractSeparate) -> Any:
        state = TrainState.initial(model, objective, optimiser)
        *_, last = train(state, oracle.sample, optimiser, Budget(steps=steps), key)
        return last.state.ema

    rungs = []
    for size in sizes:
        score = _resized(wrong, jnp.asarray(size, x.dtype))
        s2 = trained(second, Second(process, score))
        s2_meng = trained(second, Meng(process, score))
        s3 = trained(third, Third(process, score, s2))
        rungs.append(_measured(Minimisers(oracle, score, s2), s2, s2_meng, s3, x, t))
    return rungs


@eqx.filter_jit
def _measured(
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
            Trained.compared(sigma**2 * s2(x, t), local.second, local.H, e.second_bound),
            Trained.compared(sigma**3 * s3(x, t), local.third, local.T, e.third_bound),
            Trained.compared(sigma**2 * s2_meng(x, t), local.meng, local.H, e.second_bound),
        )

    each = jax.vmap(at)(x, t)
    models = (each.second, each.third, each.meng)
    return Rung(_rms(each.delta1), *(model.summary() for model in models))


def _resized(wrong: Wrong, size: Scalar) -> Wrong:
    return eqx.tree_at(lambda wrong: wrong.size, wrong, size)


def _in_noise(truth: Minimisers, x: Vector, t: Scalar) -> Local:
    return truth.at(x, t).in_units_of(truth.oracle.process.sigma(t))


def _rms(values: Float[Array, " n"]) -> Scalar:
    return jnp.sqrt(jnp.mean(values**2))
