"""A fitted density in PyTorch: values, derivatives to the second, draws, and what is refused."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from gaussian import C_MEAN, C_SCALE, X_SCALE, A, S, conditional_gaussian, gaussian, moments
from scipy import stats
from standard_errors import assert_covariance, assert_mean

from scoreode import ScoreODE
from scoreode.errors import InputError
from scoreode.model.simple import fit_tail
from scoreode.model.stack import Stack
from scoreode.model.standardise import Chain, Scaling
from scoreode.network import MLP

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("scoreode.adapters.torch")
Distribution = adapter.Distribution


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(120, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]]) + 3


@pytest.fixture(scope="module")
def est(X):
    return gaussian(X)


@pytest.fixture(scope="module")
def truth(X):
    return stats.multivariate_normal(X.mean(0), np.cov(X.T, bias=True))


@pytest.fixture(scope="module")
def given():
    return conditional_gaussian()


@pytest.fixture(scope="module")
def c():
    return C_MEAN + C_SCALE * np.random.default_rng(1).normal(size=(4, 3))


def tensor(values, dtype=torch.float64, *, learns=False):
    return torch.tensor(values, dtype=dtype, requires_grad=learns)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_log_densities_of_any_shape(est, X, truth, dtype):
    p = Distribution(est)
    assert (p.event_shape, p.batch_shape) == ((2,), ())
    for shape in ((2,), (5, 2), (2, 3, 2), (0, 2)):
        x = tensor(X.ravel()[: int(np.prod(shape))].reshape(shape), dtype)
        nats = p.log_prob(x)
        assert nats.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert nats.shape == shape[:-1]
        expected = np.reshape(truth.logpdf(x.double().numpy()), shape[:-1])
        np.testing.assert_allclose(nats, expected, atol=2e-3)


@pytest.mark.slow
def test_derivatives_in_float64(est, X, truth):
    p, x = Distribution(est), tensor(X[:4], learns=True)
    assert torch.autograd.gradcheck(p.log_prob, (x,))
    assert torch.autograd.gradgradcheck(p.log_prob, (x[:1].detach().requires_grad_(),))
    p.log_prob(x).sum().backward()
    precision = np.linalg.inv(truth.cov)
    np.testing.assert_allclose(x.grad, (X.mean(0) - X[:4]) @ precision, atol=2e-3)
    hessian = torch.autograd.functional.hessian(p.log_prob, tensor(X[0]))
    np.testing.assert_allclose(hessian, -precision, atol=2e-3)


@pytest.mark.slow
def test_gradients_are_those_of_the_log_density(X):
    """Of a stack of a diffusion that is no Gaussian and a heavy tail, in float32."""
    tiny = {"order": 1, "steps": 100, "network": MLP(width=16, depth=1), "batch_size": 32}
    rows = np.exp(X / 3)
    learnt = ScoreODE(**tiny, learning_rate=1e-2).fit(rows)
    tail = fit_tail(Chain((Scaling.identity(2),)), rows)
    stack = Stack((learnt.fitted_.density,), (tail,), np.array([0.6, 0.4]))
    learnt.fitted_ = replace(learnt.fitted_, stack=stack)
    x = tensor(rows[:20], torch.float32, learns=True)
    nats = Distribution(learnt).log_prob(x)
    np.testing.assert_allclose(nats.detach(), learnt.score_samples(rows[:20]), atol=2e-3)
    nats.sum().backward()
    scale = rows.std(0)
    np.testing.assert_allclose(
        x.grad.numpy() * scale, learnt.score_function(rows[:20]) * scale, atol=1e-2
    )


def test_conditions_are_broadcast(given, c):
    p = Distribution(given, tensor(c))
    assert (p.event_shape, p.batch_shape) == ((2,), (4,))
    mean, deviation = moments(c)
    law = stats.norm(mean, deviation)
    x = mean + deviation * np.random.default_rng(2).normal(size=(3, 4, 2))
    np.testing.assert_allclose(p.log_prob(tensor(x)), law.logpdf(x).sum(-1), atol=2e-3)
    np.testing.assert_allclose(p.log_prob(tensor(x[0, 0])), law.logpdf(x[0, 0]).sum(-1), atol=2e-3)
    wide = p.expand((3, 4))
    assert wide.batch_shape == (3, 4)
    np.testing.assert_allclose(wide.log_prob(tensor(x)), p.log_prob(tensor(x)), atol=1e-9)
    one = Distribution(given, c[0].tolist())  # 32-bit
    assert one.batch_shape == ()
    found = one.log_prob(tensor(x[:, 0], torch.float32))
    np.testing.assert_allclose(found, p.log_prob(tensor(x))[:, 0], atol=1e-3)


@pytest.mark.slow
def test_derivatives_in_the_conditions(given, c):
    unit = tensor((c[:2] - C_MEAN) / C_SCALE, learns=True)
    x = tensor(moments(c)[0][:2] + X_SCALE, learns=True)

    def nats(x, unit):
        return Distribution(given, tensor(C_MEAN) + tensor(C_SCALE) * unit).log_prob(x)

    assert torch.autograd.gradcheck(nats, (x, unit))
    assert torch.autograd.gradgradcheck(nats, (x, unit))
    nats(x[0], unit).sum().backward()  # one x for both conditions
    assert torch.count_nonzero(x.grad[1]) == 0


@pytest.mark.slow
def test_draws(est, given, X, truth, c):
    p = Distribution(est)
    torch.manual_seed(0)
    draws = p.sample((40, 25))
    assert draws.dtype == torch.float32
    assert_mean(draws.reshape(-1, 2).numpy(), X.mean(0))
    assert_covariance(draws.reshape(-1, 2).numpy(), truth.cov)
    torch.manual_seed(0)
    assert torch.equal(p.sample((40, 25)), draws)
    assert p.expand((3,)).sample((2,)).shape == (2, 3, 2)
    assert p.sample((0,)).shape == (0, 2)

    mean, deviation = moments(c)
    many = Distribution(given, tensor(c)).sample((500,))
    assert many.shape == (500, 4, 2)
    for j in range(4):
        assert_mean(many[:, j].numpy(), mean[j])
        assert_covariance(many[:, j].numpy(), np.diag(deviation**2))


@pytest.mark.slow
def test_draws_move_with_the_conditions(given, c):
    """By X_SCALE A / C_SCALE, but for the part of x_T in which the prior is off."""
    conditions = tensor(c[0], learns=True)
    draws = Distribution(given, conditions).rsample((2,))
    shrunk = np.sqrt((S**2 + 0.01**2) / (S**2 + 100))
    expected = (X_SCALE * (1 - shrunk))[:, None] * A / C_SCALE
    for j in range(2):
        (slope,) = torch.autograd.grad(draws[:, j].sum() / 2, conditions, retain_graph=True)
        np.testing.assert_allclose(slope.numpy() * C_SCALE, expected[j] * C_SCALE, atol=1e-3)
    assert not Distribution(given, conditions).sample().requires_grad


@pytest.mark.slow
def test_steps_stay_within_a_declared_support():
    """A sampler moves in unbounded coordinates, whose Jacobian is that of the support."""
    rng = np.random.default_rng(0)
    columns = rng.beta(0.5, 2, 200), rng.gamma(0.7, size=200), -rng.gamma(2, size=200)
    x = np.column_stack([*columns, rng.normal(size=200), rng.uniform(-180, 180, 200)])
    tiny = {"order": 1, "steps": 20, "network": MLP(width=16, depth=1), "batch_size": 32}
    bounds = {0: (0, 1), 1: (0, None), 2: (None, 0)}
    est = ScoreODE(**tiny, bounds=bounds, period={4: 360}).fit(x)
    p, rows = Distribution(est), tensor(x[:6])
    np.testing.assert_allclose(p.log_prob(rows), est.score_samples(x[:6]), atol=0.05)
    outside = tensor(np.tile(x[0], (4, 1)))
    for row, column, value in ((0, 0, 1.5), (1, 1, -1.0), (2, 2, 1.0), (3, 4, 200.0)):
        outside[row, column] = value
    assert not p.support.check(outside).any()
    assert torch.isinf(Distribution(est, validate_args=False).log_prob(outside[:3])).all()
    with pytest.raises(ValueError, match="within the support"):
        p.log_prob(outside)
    assert p.support.check(p.sample((200,))).all()
    into = torch.distributions.biject_to(p.support)
    z = into.inv(rows)
    assert torch.allclose(into(z), rows)
    jacobians = torch.stack([torch.autograd.functional.jacobian(into, one) for one in z])
    assert torch.allclose(into.log_abs_det_jacobian(z, rows), jacobians.slogdet()[1])
    assert p.support.event_dim == into.domain.event_dim == 1


def test_copies_are_the_same(est, X, tmp_path):
    x = tensor(X[:3])
    est.save(tmp_path / "model")
    for p in (Distribution(est), Distribution(tmp_path / "model")):
        for again in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
            assert torch.equal(again.log_prob(x), p.log_prob(x))


def test_what_has_no_density_or_no_such_shape(est, given, X, c):
    p = Distribution(est)
    with pytest.raises(InputError, match=r"shape \(3,\): the last dimension must be 2"):
        p.log_prob(torch.zeros(3))
    with pytest.raises(ValueError, match="within the support"):
        p.log_prob(tensor([np.nan, 0.0]))
    assert torch.isnan(Distribution(est, validate_args=False).log_prob(tensor([np.nan, 0.0])))
    with pytest.raises(InputError, match="takes none"):
        Distribution(est, c)
    with pytest.raises(InputError, match="conditional on a, b, c: give c"):
        Distribution(given)
    with pytest.raises(InputError, match=r"shape \(4, 2\): the last dimension must be 3"):
        Distribution(given, c[:, :2])
    with pytest.raises(ValueError, match="Expected parameter c"):
        Distribution(given, np.full(3, np.nan))
    tiny = {"order": 1, "steps": 1, "network": MLP(width=16, depth=1), "batch_size": 32}
    discrete = np.column_stack([X[:, 0], X[:, 1] > 3])
    with pytest.raises(InputError, match="discrete columns: they have no density"):
        Distribution(ScoreODE(**tiny, discrete=[1]).fit(discrete))
    with pytest.raises(InputError, match="not a run"):
        Distribution("/nowhere")
