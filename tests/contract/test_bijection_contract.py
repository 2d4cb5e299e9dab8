"""Standardising bijections: invertible, with the Jacobian they say, in NumPy and in JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from catalogue import BIJECTIONS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize

from scoreode.standardise import BoxCox, Chain

pytestmark = pytest.mark.usefixtures("x64")

D = 3


def lognormal_rows(n=500):
    """Skewed and correlated columns of very unequal scales."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(n, D)) @ np.array([[0.7, 0.4, 0.1], [0, 0.5, 0.3], [0, 0, 0.4]])
    return np.exp(normal) * [1.0, 1e-3, 1e3] + [0.0, 5.0, -40.0]


ROWS = lognormal_rows()
FITTED = {name: Chain.fitted(families, ROWS) for name, families in BIJECTIONS.items()}

# In units of a column's scale above the least value seen; down to 3 of them below it.
elements = st.floats(-3, 12).filter(lambda u: abs(u) > 1e-6)
rows = hnp.arrays(np.float64, (1, D), elements=elements).map(
    lambda u: ROWS.min(0) + u * ROWS.std(0)
)


@pytest.fixture(params=BIJECTIONS)
def name(request):
    return request.param


@settings(max_examples=60)
@given(x=rows)
def test_round_trip(name, x):
    """Measured in z: where T flattens, x is lost to rounding and z is not."""
    bijection = FITTED[name]
    z, _ = bijection.forward(x)
    again = bijection.inverse(z)
    assert np.all(np.isfinite(again))
    np.testing.assert_allclose(bijection.forward(again)[0], z, rtol=1e-9, atol=1e-9)


@settings(max_examples=60)
@given(x=rows)
def test_round_trip_where_the_data_are(name, x):
    """From the least value seen upwards T is steep enough for x itself to come back."""
    x = np.maximum(x, ROWS.min(0))
    again = FITTED[name].inverse(FITTED[name].forward(x)[0])
    np.testing.assert_allclose((again - x) / ROWS.std(0), 0, atol=1e-8)


@settings(max_examples=30)
@given(x=rows)
def test_log_det_is_that_of_the_jacobian(name, x):
    bijection = FITTED[name]
    jacobian = np.asarray(jacobians[name](jnp.asarray(x[0])))
    sign, expected = np.linalg.slogdet(jacobian * ROWS.std(0))  # scaled, to be well conditioned
    assert sign != 0
    found = bijection.forward(x)[1] + np.sum(np.log(ROWS.std(0)))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-8)


jacobians = {
    name: jax.jit(jax.jacobian(lambda x, b=bijection: b.forward(x)[0]))
    for name, bijection in FITTED.items()
}


def test_numpy_and_jax_agree(name):
    bijection, z = FITTED[name], FITTED[name].forward(ROWS)[0]
    x = np.concatenate([ROWS, ROWS.min(0) - np.outer([0.1, 1.0], ROWS.std(0))])
    for host, device in zip(bijection.forward(x), bijection.forward(jnp.asarray(x)), strict=True):
        assert isinstance(host, np.ndarray)
        assert isinstance(device, jax.Array)
        np.testing.assert_allclose(host, device, rtol=1e-12, atol=1e-12)
    back = bijection.inverse(jnp.asarray(z))
    np.testing.assert_allclose(bijection.inverse(z), back, rtol=1e-11, atol=1e-12)


def test_rows_are_transformed_one_by_one(name):
    bijection = FITTED[name]
    z, log_det = bijection.forward(ROWS)
    assert z.shape == ROWS.shape
    assert log_det.shape == (len(ROWS),)
    alone, log_det_alone = bijection.forward(ROWS[3:4])
    np.testing.assert_allclose(z[3:4], alone, rtol=1e-12)
    np.testing.assert_allclose(log_det[3:4], log_det_alone, rtol=1e-12)


@settings(max_examples=20)
@given(x=hnp.arrays(np.float64, (4, D), elements=st.floats(1e-3, 50)))
def test_identity(name, x):
    """For positive rows, which is all that Box–Cox's identity promises."""
    z, log_det = Chain.identity(BIJECTIONS[name], D).forward(x)
    offset = BIJECTIONS[name].count(BoxCox)  # Box–Cox with λ = 1 is z = w − 1, w = x + shift
    np.testing.assert_allclose(z, x, rtol=1e-12, atol=1e-12 * (1 + offset))
    np.testing.assert_allclose(log_det, 0, atol=1e-12)


def test_identity_has_the_structure_of_the_fitted(name):
    blank = Chain.identity(BIJECTIONS[name], D)
    assert jax.tree.structure(blank) == jax.tree.structure(FITTED[name])
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(blank)]
    assert shapes == [np.shape(leaf) for leaf in jax.tree.leaves(FITTED[name])]


def test_fitted_rows_are_standard(name):
    z = FITTED[name].forward(ROWS)[0]
    if name == "box-cox":
        assert np.all(np.abs(skewness(z)) < 0.3 * np.abs(skewness(ROWS)))
        return
    if name == "centre":
        z = z.reshape(-1, 1)  # one mean and one scale for all values
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-9)
    covariance = np.atleast_2d(np.cov(z.T, bias=True))
    if name == "scale":
        covariance = np.diag(np.diag(covariance))
    np.testing.assert_allclose(covariance, np.eye(z.shape[1]), atol=1e-6)


def skewness(x):
    return np.mean(((x - x.mean(0)) / x.std(0)) ** 3, 0)


def gaussian_nll(bijection):
    """Mean −log-density of the rows in nats: one Gaussian with full covariance, after T."""
    z, log_det = bijection.forward(ROWS)
    covariance = np.atleast_2d(np.cov(z.T, bias=True))
    return (
        0.5 * np.linalg.slogdet(covariance)[1]
        + 0.5 * D * (1 + np.log(2 * np.pi))
        - np.mean(log_det)
    )


def nll_of_parameters(parameters):
    """What Box–Cox is fitted by, up to a weak pull to the identity, from its public face."""
    lam, log_shift = parameters.reshape(2, D)
    return gaussian_nll(BoxCox(ROWS.min(0), ROWS.std(0), np.exp(log_shift), lam))


def test_box_cox_is_fitted_to_a_stationary_point():
    """A wrong gradient would stop elsewhere; the pull moves it by less than the tolerance."""
    fitted = FITTED["box-cox"].parts[0]
    parameters = np.concatenate([fitted.lam, np.log(fitted.shift)])
    start = np.concatenate([np.ones(D), np.full(D, -1.0)])
    assert np.abs(optimize.approx_fprime(start, nll_of_parameters, 1e-6)).max() > 0.05
    gradient = optimize.approx_fprime(parameters, nll_of_parameters, 1e-6)
    np.testing.assert_allclose(gradient, 0, atol=5e-4)
    away = parameters + 0.1 * np.random.default_rng(0).normal(size=(20, 2 * D))
    assert min(map(nll_of_parameters, away)) > nll_of_parameters(parameters)


def test_power_transforms_suit_lognormal_rows_better():
    nll = {name: gaussian_nll(bijection) for name, bijection in FITTED.items()}
    identity = gaussian_nll(Chain.identity((BoxCox,), D))
    assert nll["box-cox"] < identity - 0.5
    np.testing.assert_allclose(nll["power"], nll["box-cox"], atol=1e-9)
    np.testing.assert_allclose(nll["scale"], nll["whiten"], atol=1e-9)
