"""p(x | c) of a Gaussian whose mean is linear in c, by a score model that knows it: no training."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats
from standard_errors import assert_covariance, assert_mean

from scoreode._typing import Pairs
from scoreode.data import Description, condition_on, from_rows
from scoreode.errors import InputError
from scoreode.flow import GridLikelihood, LogLikelihood, Refined, uniform_noise
from scoreode.model.build import prepare
from scoreode.model.config import Run
from scoreode.model.defaults import for_table
from scoreode.model.density import Density
from scoreode.model.fitted import Fitted
from scoreode.model.standardise import Chain, Conditioning, Scaling
from scoreode.network import MLP
from scoreode.objective import DenoisingScoreMatching
from scoreode.process import VE
from scoreode.score import Score, ScoreModel, Velocity
from scoreode.train.batches import batches

PROCESS = VE(sigma_min=0.01, sigma_max=10.0)
A = np.array([[0.8, -0.5, 0.0], [0.3, 0.0, -1.0]])
S = np.array([0.4, 0.7])  # of x given c, in standardised units
X_MEAN, X_SCALE = np.array([3.0, -200.0]), np.array([0.5, 10.0])
C_MEAN, C_SCALE = np.array([0.0, 50.0, -1.0]), np.array([1.0, 20.0, 0.1])


class Gaussian(eqx.Module):
    """∇log N(x; A c, S² + σ²), as a network sees x and t."""

    A: jax.Array
    S: jax.Array

    def __call__(self, y, log_snr, c):
        variance = jnp.exp(-log_snr)
        return -(y * jnp.sqrt(1 + variance) - self.A @ c) / (self.S**2 + variance)


@pytest.fixture(scope="module")
def density():
    network = Gaussian(jnp.asarray(A, jnp.float32), jnp.asarray(S, jnp.float32))
    model = ScoreModel(PROCESS, Score(), network)
    condition = Conditioning(Scaling(C_MEAN, C_SCALE), np.zeros((3, 2)), None)
    return Density(Chain((Scaling(X_MEAN, X_SCALE),), condition), model)


@pytest.fixture(scope="module")
def rows():
    """Pairs (x, c) of the truth, in their own units."""
    rng = np.random.default_rng(0)
    c = rng.normal(size=(300, 3))
    z = c @ A.T + S * rng.normal(size=(300, 2))
    return X_MEAN + X_SCALE * z, C_MEAN + C_SCALE * c


def moments(c):
    """Mean and standard deviations of x given c: the prior N(0, 1 + σ_T²), carried by the ODE."""
    mean = (c - C_MEAN) / C_SCALE @ A.T
    shrunk = np.sqrt((S**2 + 0.01**2) / (S**2 + 100))
    return X_MEAN + X_SCALE * mean * (1 - shrunk), X_SCALE * shrunk * np.sqrt(101)


def log_density(x, c):
    return stats.norm(*moments(c)).logpdf(x).sum(1)


@pytest.mark.parametrize("how", [GridLikelihood(), Refined(tolerance=1e-6, most_steps=80)])
def test_log_densities_are_those_of_x_given_its_own_c(density, rows, how):
    """The second solves some rows again, with the c that belongs to them."""
    x, c = rows
    found = density.log_likelihood(x, how=how, c=c)
    np.testing.assert_allclose(found.nats, log_density(x, c), atol=2e-3)
    backwards = density.log_likelihood(x[::-1], how=how, c=c[::-1])
    np.testing.assert_array_equal(backwards.nats[::-1], found.nats)


def test_samples_are_of_x_given_c(density, rows):
    c = np.repeat(rows[1][:2], 2000, axis=0)
    drawn = density.sample(4000, 2, c=c).reshape(2, 2000, 2)
    mean, deviation = moments(rows[1][:2])
    for samples, m in zip(drawn, mean, strict=True):
        assert_mean(samples, m)
        assert_covariance(samples, np.diag(deviation**2))


def test_scores_and_hessians_are_in_x_alone(density, rows):
    x, c = (array[:20] for array in rows)
    variance = (S**2 + float(PROCESS.sigma(jnp.asarray(0.5))) ** 2) * X_SCALE**2
    mean = X_MEAN + X_SCALE * ((c - C_MEAN) / C_SCALE @ A.T)
    score = density.score(x, 0.5, c)
    np.testing.assert_allclose(score * X_SCALE, -(x - mean) / variance * X_SCALE, atol=1e-4)
    v = X_SCALE * np.ones((20, 2))
    product = density.hessian_product(x, v, 0.5, c)
    np.testing.assert_allclose(product * X_SCALE, -v / variance * X_SCALE, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("standardise", ["scale", "whiten", "power"])
def test_what_is_linear_and_normal_is_known_before_training(standardise):
    """By the regression on c: KL of (parameters)/2n, and of a network that starts near zero."""
    rng = np.random.default_rng(1)
    c = rng.normal(size=(20_000, 3))
    x = X_MEAN + X_SCALE * (c @ A.T + S * rng.normal(size=(20_000, 2)))
    both = np.concatenate([x, C_MEAN + C_SCALE * c], 1)
    data = condition_on(from_rows("pairs", both, tuple("abcde"), 0, 0.1), tuple("cde"))
    run = Run(DenoisingScoreMatching(PROCESS), network=MLP(16, 1), standardise=standardise)
    _, density = prepare(run, data)
    x, c = data.validation[:1000], data.conditions.validation[:1000]
    mean = (c - C_MEAN) / C_SCALE @ A.T
    truth = stats.norm(X_MEAN + X_SCALE * mean, X_SCALE * S).logpdf(x).sum(1)
    assert abs(np.mean(truth - density.log_likelihood(x, c=c).nats)) < 0.01
    sampler = batches(data, density.bijection)
    drawn = sampler(jr.key(0), 4000)
    assert_covariance(np.asarray(drawn.x), np.eye(2))
    assert_covariance(np.concatenate([drawn.x, drawn.c], 1), np.eye(5))
    again = density.sample(4000, 2, c=np.repeat(c[:1], 4000, axis=0))
    assert abs(again.mean(0) - X_MEAN - X_SCALE * mean[0]).max() < 0.2 * X_SCALE.max()
    np.testing.assert_allclose(again.std(0), X_SCALE * S, rtol=0.06)


def test_the_bound_is_tight_for_the_right_score(density, rows):
    """But for q_T and the prior: the mean over x_T of the logarithm of their ratio."""
    x, c = rows
    z, mean = (x - X_MEAN) / X_SCALE, (c - C_MEAN) / C_SCALE @ A.T
    variance = S**2 + 0.01**2
    truth = stats.norm(mean, np.sqrt(variance)).logpdf(z).sum(1) - np.log(X_SCALE).sum()
    ends = 0.5 * np.log(101 / (S**2 + 100)) + 0.5 * (z**2 + 100) / 101
    ends -= 0.5 * ((z - mean) ** 2 + 100) / (S**2 + 100)
    assert_mean(density.nll_bound(x, c=c) + truth, np.mean(ends.sum(1)))


def test_masses_of_cells_given_c(density, rows):
    """With the noise that is drawn, against the closed form."""
    width = (0.25, 0.0)
    x, c = (array[:30] for array in rows)
    x = np.where(np.asarray(width) > 0, 0.25 * np.floor(x / 0.25), x)
    data = condition_on(from_rows("both", np.hstack([x, c]), "xyabc", 0, 0.0), "abc")
    data = replace(data, bin_width=width, bin_edge=(0.0, 0.0))
    run = for_table(30, 2, process=PROCESS)
    fitted = Fitted(run, density, Description.of(data), 0, 0.0, None)

    def closed_form(x):
        nats, zeros = log_density(x, c), np.zeros(len(x))
        return LogLikelihood(nats, zeros, zeros.astype(int), zeros == 0, x, zeros)

    found = fitted.log_likelihood(x, seed=5, samples=4, c=c)
    noise = uniform_noise(width, (0.0, 0.0))
    assert noise is not None
    expected = noise.log_mass(closed_form, x, samples=4, seed=5)
    np.testing.assert_allclose(found.nats, expected.nats, atol=2e-3)


@pytest.mark.parametrize("shape", [None, (300, 2)])
def test_conditions_are_neither_forgotten_nor_mistaken(density, rows, shape):
    c = None if shape is None else np.zeros(shape)
    with pytest.raises(InputError, match=r"takes conditions of shape \(300, 3\)"):
        density.log_likelihood(rows[0], c=c)
    without = replace(density, bijection=replace(density.bijection, condition=None))
    with pytest.raises(InputError, match="takes no conditions"):
        without.score(rows[0], 0.0, np.zeros((300, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 3])
def test_objectives_match_the_score_given_each_rows_own_c(order):
    """Conditions in halves of a batch, swapped, cost what either costs for the whole of it."""
    network = MLP(width=8, depth=1).build((2,), jr.key(0), 3)
    network = eqx.tree_at(lambda net: net.readout.weight, network, 50 * network.readout.weight)
    model = ScoreModel(PROCESS, Velocity(), network)
    loss = DenoisingScoreMatching(PROCESS, order, every=2)
    x, (one, other) = jr.normal(jr.key(1), (8, 2)), jr.normal(jr.key(2), (2, 4, 3))

    @eqx.filter_jit
    def of(model, batch):
        return loss(model, batch, jr.key(3), jnp.asarray(1.0))[0]

    a, b = one[0], other[0]
    alone = [of(model.condition_on(c), x) for c in (a, b)]
    halves = [jnp.repeat(jnp.stack(pair), 4, axis=0) for pair in ((a, b), (b, a))]
    mixed = [of(model, Pairs(x, c)) for c in halves]
    np.testing.assert_allclose(sum(mixed), sum(alone), rtol=1e-4)
    assert abs(alone[0] - alone[1]) > 0.02 * abs(alone[0]), "conditions make a difference"
    np.testing.assert_allclose(of(model, Pairs(x, jnp.tile(a, (8, 1)))), alone[0], rtol=1e-4)
