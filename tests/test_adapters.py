"""Fitted densities within other libraries: their protocols, gradients, laws."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from gaussian import gaussian
from scipy import stats

from scoreode import ScoreODE
from scoreode.adapters import distrax
from scoreode.network import MLP


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(120, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]]) + 3


@pytest.fixture(scope="module")
def est(X):
    return gaussian(X)


@pytest.fixture(scope="module")
def truth(X):
    return stats.multivariate_normal(X.mean(0), np.cov(X.T, bias=True))


@pytest.mark.slow
def test_distrax(est, X, truth):
    p = distrax.Distribution(est)
    assert (p.event_shape, p.batch_shape) == ((2,), ())
    x = X[:6].reshape(2, 3, 2)
    np.testing.assert_allclose(jax.jit(p.log_prob)(x), truth.logpdf(x), atol=2e-3)
    np.testing.assert_allclose(p.prob(X[:3]), truth.pdf(X[:3]), rtol=2e-3)
    gradient = jax.vmap(jax.grad(p.log_prob))(jnp.asarray(X[:6], jnp.float32))
    np.testing.assert_allclose(gradient, (X.mean(0) - X[:6]) @ np.linalg.inv(truth.cov), atol=2e-2)
    draw = jax.jit(lambda p, seed: p.sample_and_log_prob(seed=seed, sample_shape=(40, 25)))
    drawn, nats = draw(p, jr.key(0))
    np.testing.assert_allclose(nats, truth.logpdf(drawn), atol=5e-3)
    moments = drawn.reshape(-1, 2)
    error = 4 * np.sqrt(np.diag(truth.cov) / 1000)
    assert (np.abs(moments.mean(0) - X.mean(0)) < error).all()
    np.testing.assert_allclose(np.cov(moments.T), truth.cov, rtol=0.25)
    np.testing.assert_array_equal(p.sample(seed=7), p.sample(seed=jr.key(7)))


@pytest.mark.slow
def test_numpyro(est, X, truth):
    """A location is found under the fitted prior, as the product of two normals has it."""
    pytest.importorskip("numpyro")
    from numpyro import distributions, handlers, sample
    from numpyro.infer.util import log_density

    from scoreode.adapters.numpyro import Distribution

    p = Distribution(est)
    np.testing.assert_allclose(p.log_prob(X[:6]), truth.logpdf(X[:6]), atol=2e-3)
    leaves, structure = jax.tree.flatten(p)
    again = jax.tree.unflatten(structure, leaves)
    np.testing.assert_array_equal(again.sample(jr.key(0), (3,)), p.sample(jr.key(0), (3,)))

    def model(observed=None):
        x = sample("x", p)
        sample("y", distributions.Normal(x, 0.5).to_event(1), obs=observed)

    assert handlers.seed(model, 0)() is None
    joint = lambda x: log_density(model, (jnp.ones(2),), {}, {"x": x})[0]  # noqa: E731
    x = jnp.asarray(X[0], jnp.float32)
    expected = truth.logpdf(X[0]) + stats.norm(X[0], 0.5).logpdf(1).sum()
    assert jax.jit(joint)(x) == pytest.approx(expected, abs=2e-3)
    slope = np.linalg.solve(truth.cov, X.mean(0) - X[0]) + (1 - X[0]) / 0.25
    np.testing.assert_allclose(jax.grad(joint)(x), slope, rtol=1e-2, atol=2e-2)


@pytest.mark.slow
def test_gradients_are_those_of_the_log_density(X):
    """Of a model that is no Gaussian, in float32, as NUTS takes them."""
    tiny = {"order": 1, "steps": 300, "network": MLP(width=16, depth=1), "batch_size": 32}
    learnt = ScoreODE(**tiny, learning_rate=1e-2, standardise="power").fit(np.exp(X / 3))
    x = np.exp(X[:20] / 3)
    numpyro = pytest.importorskip("scoreode.adapters.numpyro")
    p = numpyro.Distribution(learnt)
    found = jax.vmap(jax.grad(p.log_prob))(jnp.asarray(x, jnp.float32))
    scale = x.std(0)
    np.testing.assert_allclose(found * scale, learnt.score_function(x) * scale, atol=1e-2)


@pytest.mark.slow
def test_masses_are_no_densities(X):
    discrete = np.column_stack([X[:, 0], X[:, 1] > 3])
    tiny = {"order": 1, "steps": 20, "network": MLP(width=16, depth=1), "batch_size": 32}
    with pytest.raises(ValueError, match="discrete columns: they have no density"):
        distrax.Distribution(ScoreODE(**tiny, discrete=[1]).fit(discrete))


@pytest.mark.slow
def test_numpyro_samples_within_a_declared_support():
    """A step of NUTS moves in unbounded coordinates, whose Jacobian is that of the support."""
    numpyro = pytest.importorskip("scoreode.adapters.numpyro")
    from numpyro.distributions import biject_to

    rng = np.random.default_rng(0)
    x = np.column_stack([rng.beta(0.5, 2, 200), rng.gamma(0.7, size=200), rng.normal(size=200)])
    tiny = {"order": 1, "steps": 20, "network": MLP(width=16, depth=1), "batch_size": 32}
    est = ScoreODE(**tiny, bounds={0: (0, 1), 1: (0, None)}).fit(x)
    p = numpyro.Distribution(est)
    rows = jnp.asarray(x[:6], jnp.float32)
    np.testing.assert_allclose(p.log_prob(rows), est.score_samples(x[:6]), atol=0.05)
    with pytest.warns(UserWarning, match="Out-of-support values"):
        assert np.asarray(p.log_prob(rows.at[:, 0].set(1.5)) == -jnp.inf).all()
    drawn = p.sample(jr.key(0), (200,))
    assert np.asarray(p.support(drawn)).all()
    assert not np.asarray(p.support(drawn.at[:, 1].set(-1.0))).any()
    into = biject_to(p.support)
    z = into.inv(rows)
    np.testing.assert_allclose(into(z), rows, rtol=1e-4, atol=1e-6)
    jacobian = jax.vmap(jax.jacfwd(into))(z)
    np.testing.assert_allclose(
        into.log_abs_det_jacobian(z, rows), jnp.linalg.slogdet(jacobian)[1], atol=1e-3
    )
    assert biject_to(numpyro.Distribution(ScoreODE(**tiny).fit(x)).support).domain.event_dim == 1
