"""The separate objectives against the paper's formulas, and their gradients at the minimisers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import WEIGHTINGS, Snapshot, mixture, random_field
from standard_errors import z_scores
from wrong_models import matrix_field, minimisers, sum_field

from scoreode.objective.separate import Meng, Second, SecondTrace, Third
from scoreode.process import VE, VP

pytestmark = pytest.mark.usefixtures("x64")

SAMPLES = 20_000
PROCESSES = {"ve": VE(sigma_max=10.0), "vp": VP()}
CLASSES = {"second": Second, "second_trace": SecondTrace, "third": Third, "meng": Meng}
ONE = np.ones(())


OUTPUTS = {"second": matrix_field, "second_trace": sum_field, "third": random_field}


def built(name, process, score, hessian, trace=None, **others):
    """The objective of this name on the given models."""
    given = (score, hessian, trace) if name == "third" else (score,)
    return CLASSES[name](process, *given, **others)


def numpy_terms(s, s1, s2, trace, eps, sigma):
    """The four objectives as the paper prints them, for outputs `s` of models."""
    d = len(eps)
    l1 = sigma * s1 + eps
    l2 = sigma**2 * s2 + np.eye(d)
    trace_l2 = sigma**2 * trace + d
    l3 = (l1 @ l1 * np.eye(d) - trace_l2 * np.eye(d) - 2 * l2) @ l1
    noise, curvature = -eps / sigma, -np.eye(d) / sigma**2  # ∇log q_0t and ∇²log q_0t
    entries = [(i, j) for i in range(d) for j in range(d)]
    meng = s["meng"] - curvature - np.outer(noise, noise) + np.outer(s1, s1)
    second = [sigma**2 * s["second"][i, j] + (i == j) - l1[i] * l1[j] for i, j in entries]
    return {
        "second": sum(entry**2 for entry in second),
        "second_trace": abs(sigma**2 * s["second_trace"] + d - sum(l1**2)) ** 2,
        "third": np.sum((sigma**3 * s["third"] + l3) ** 2),
        "meng": sigma**4 * np.sum(meng**2),
    }


@pytest.mark.slow
@pytest.mark.parametrize("separate_trace", [False, True])
@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_terms_are_the_papers(process, d, separate_trace):
    score, hessian = random_field(d, 1), matrix_field(d, 2)
    trace = sum_field(d, 3) if separate_trace else None
    models = {name: OUTPUTS.get(name, matrix_field)(d, 4) for name in CLASSES}
    x_0, eps = np.random.default_rng(0).normal(size=(2, d))
    t = jnp.asarray(0.4)
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    x_t = jnp.asarray(alpha * x_0 + sigma * eps)
    s1, s2 = np.asarray(score(x_t, t)), np.asarray(hessian(x_t, t))
    expected = numpy_terms(
        {name: np.asarray(model(x_t, t)) for name, model in models.items()},
        s1,
        s2,
        np.trace(s2) if trace is None else float(trace(x_t, t)),
        eps,
        sigma,
    )
    for name, model in models.items():
        objective = built(name, process, score, hessian, trace)
        found = objective.term(model, jnp.asarray(x_0), jnp.asarray(eps), t)
        np.testing.assert_allclose(found, expected[name], rtol=1e-11)


class Point(eqx.Module):
    """A draw, the wrong models' values there, and what closed forms say is learnt from them."""

    alpha: jax.Array
    sigma: jax.Array
    x_0: jax.Array
    eps: jax.Array
    s1: jax.Array
    s2: jax.Array
    trace: jax.Array
    minimum: dict

    def objective(self, name):
        constant = lambda value: lambda _x, _t: value  # noqa: E731
        given = constant(self.s1), constant(self.s2), constant(self.trace)
        return built(name, Snapshot(self.alpha, self.sigma), *given)


@eqx.filter_jit
def levels(process, key):
    """α and σ where the log-SNR is uniform."""
    low, high = process.log_snr_range()
    t = jax.vmap(process.t_of_log_snr)(jr.uniform(key, (SAMPLES,), minval=low, maxval=high))
    return jax.vmap(process.alpha)(t), jax.vmap(process.sigma)(t)


@eqx.filter_jit
def points(oracle, alpha, sigma):
    """Draws at these levels, with wrong ŝ1, ŝ2 and a trace model that is not ŝ2's trace."""
    key_x, key_eps = jr.split(jr.key(0))
    x_0 = oracle.sample(key_x, SAMPLES)

    def at(alpha, sigma, x_0, eps):
        q = eqx.tree_at(lambda oracle: oracle.process, oracle, Snapshot(alpha, sigma))
        x, t = alpha * x_0 + sigma * eps, jnp.asarray(ONE)
        truth = minimisers(q)
        minimum = {name: getattr(truth.at(x, t), name) for name in CLASSES}
        given = truth.score(x, t), truth.hessian(x, t), truth.trace(x, t)
        return Point(alpha, sigma, x_0, eps, *given, minimum)

    return jax.vmap(at)(alpha, sigma, x_0, jr.normal(key_eps, x_0.shape))


@eqx.filter_jit
def gradients(points, mutate):
    """∂(terms)/∂θ at minimum + Σ_k θ_k φ_k, φ_k smooth in x and the level: (samples, 4, θ)."""

    def gradient(point, name):
        objective, minimum = point.objective(name), point.minimum[name]
        x = point.alpha * point.x_0 + point.sigma * point.eps
        u = jnp.append(x, point.alpha) / jnp.hypot(point.alpha, point.sigma)
        A, b = jr.normal(jr.key(7), (*minimum.shape, 2, u.size)), jnp.array([0.0, 1.0])
        phi = jnp.tanh(A @ u + b) / point.sigma**objective.order

        def term(theta):
            model = lambda _x, _t: minimum + phi @ theta  # noqa: E731
            return mutate(point, name)(model, point.x_0, point.eps, jnp.asarray(ONE))

        return jax.jacfwd(term)(jnp.zeros(2))

    return jax.vmap(lambda p: jnp.stack([gradient(p, name) for name in CLASSES]))(points)


def package_term(point, name):
    return point.objective(name).term


def largest_scores(process, d, term=package_term):
    """The mean gradient at every closed-form minimiser, in standard errors: its largest entry."""
    drawn = points(mixture(VE(), d), *levels(process, jr.key(1)))
    scores = np.abs(z_scores(gradients(drawn, term))).max(1)
    return dict(zip(CLASSES, scores, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_gradients_vanish_at_the_closed_form_minimisers(process, d):
    scores = largest_scores(process, d)
    assert max(scores.values()) < 4, scores


def without_noise(point, name):
    """ℓ1 = σ ŝ1: the noise enters x_t and not the target."""
    objective = point.objective(name)

    def term(model, x_0, eps, t):
        x_t = objective.process.diffuse(x_0, eps, t)
        return jnp.sum(objective.residual(model(x_t, t), x_t, 0 * eps, t) ** 2)

    return term


def wrong_sign(point, name):
    """The model's part of the residual with its sign turned."""
    term = point.objective(name).term
    return lambda model, *draw: term(lambda x, t: -model(x, t), *draw)


def exchanged(point, name):
    """Meng's objective where Second should be, and the reverse."""
    return point.objective({"second": "meng", "meng": "second"}.get(name, name)).term


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "names"),
    [(without_noise, CLASSES), (wrong_sign, CLASSES), (exchanged, ("second", "meng"))],
)
def test_a_broken_objective_would_show(mutant, names):
    scores = largest_scores(VP(), 2, mutant)
    assert all(scores[name] > 8 for name in names), scores


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_no_gradient_flows_through_what_is_given(name):
    """ŝ1, ŝ2 and the model share θ. Differences, which know no stop-gradient, are the mutant."""
    d, at, step = 3, 1.3, 1e-5
    model = OUTPUTS.get(name, matrix_field)(d, 4)
    field, wrong = random_field(d, 1), matrix_field(d, 2)
    draw = *map(jnp.asarray, np.random.default_rng(0).normal(size=(2, d))), jnp.asarray(0.4)

    def term(theta, given):
        score, hessian = (lambda x, t: given * field(x, t)), (lambda x, t: given * wrong(x, t))
        return built(name, VP(), score, hessian).term(lambda x, t: theta * model(x, t), *draw)

    held = float(jax.grad(term)(at, at))
    shared = float(jax.grad(lambda theta: term(theta, theta))(at))
    mutant = (term(at + step, at + step) - term(at - step, at - step)) / (2 * step)
    assert shared == pytest.approx(held, rel=1e-12)
    assert abs(mutant - held) > 1e-2 * abs(held)


@pytest.mark.slow
@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("name", CLASSES)
def test_the_loss_of_a_batch_is_the_weighted_mean_over_its_rows(name):
    """At the batch's own draws, for times that are drawn unequally and learn from the terms."""
    d, n = 2, 12
    weighting = WEIGHTINGS["adaptive-used"].make()
    given = random_field(d, 1), matrix_field(d, 2)
    objective = built(name, VP(), *given, weighting=weighting)
    model, x = OUTPUTS.get(name, matrix_field)(d, 4), jr.normal(jr.key(5), (n, d))
    loss, (reported, after) = eqx.filter_jit(objective)(model, x, jr.key(6), jnp.zeros(()))
    key_t, key_eps = jr.split(jr.key(6))
    t, weight = weighting.sample(VP(), key_t, n)
    terms = jax.vmap(lambda *draw: objective.term(model, *draw))(x, jr.normal(key_eps, x.shape), t)
    assert np.ptp(weight) > 0.1
    divided = np.asarray(terms) / d ** {"third": 3}.get(name, 2)
    np.testing.assert_allclose(loss, np.mean(np.asarray(weight) * divided), rtol=1e-12)
    assert reported["loss"] == loss
    learnt = weighting.update(VP(), t, jnp.asarray(divided))
    np.testing.assert_allclose(after.weighting.mean_square, learnt.mean_square, rtol=1e-10)
