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
from sklearn.covariance import LedoitWolf

from scoreode.model.config import STANDARDISATIONS
from scoreode.model.standardise import Chain, Conditioning, Power, Whitening, choose

pytestmark = pytest.mark.usefixtures("x64")

D = 3


def lognormal_rows(n=500):
    """Correlated columns of very unequal scales: two skewed, and one with two heavy tails."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(n, D)) @ np.array([[0.7, 0.4, 0.1], [0, 0.5, 0.3], [0, 0, 0.4]])
    bent = np.column_stack([np.exp(normal[:, :2]), np.sinh(3 * normal[:, 2])])
    return bent * [1.0, 1e-3, 1e3] + [0.0, 5.0, -40.0]


ROWS = lognormal_rows()
FITTED = {name: Chain.fit(families, ROWS) for name, families in BIJECTIONS.items()}

# In units of a column's scale above the least value seen: far beyond the rows on both sides.
elements = st.floats(-30, 60).filter(lambda u: abs(u) > 1e-6)
rows = hnp.arrays(np.float64, (1, D), elements=elements).map(
    lambda u: ROWS.min(0) + u * ROWS.std(0)
)


@pytest.fixture(params=BIJECTIONS)
def name(request):
    return request.param


@settings(max_examples=60)
@given(x=rows)
def test_round_trip(name, x):
    again = FITTED[name].inverse(FITTED[name].forward(x)[0])
    np.testing.assert_allclose((again - x) / ROWS.std(0), 0, atol=1e-8)


@settings(max_examples=60)
@given(z=hnp.arrays(np.float64, (1, D), elements=st.floats(-40, 40)))
def test_every_z_has_an_x(name, z):
    """A sampler may end anywhere; it took log p from T(x), which has to be where it ended."""
    x = FITTED[name].inverse(z)
    assert np.all(np.isfinite(x))
    np.testing.assert_allclose(FITTED[name].forward(x)[0], z, rtol=1e-7, atol=1e-7)


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
@given(x=hnp.arrays(np.float64, (4, D), elements=st.floats(-50, 50)))
def test_identity(name, x):
    z, log_det = Chain.identity(BIJECTIONS[name], D).forward(x)
    np.testing.assert_allclose(z, x, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(log_det, 0, atol=1e-12)


def test_identity_has_the_structure_of_the_fitted(name):
    blank = Chain.identity(BIJECTIONS[name], D)
    assert jax.tree.structure(blank) == jax.tree.structure(FITTED[name])
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(blank)]
    assert shapes == [np.shape(leaf) for leaf in jax.tree.leaves(FITTED[name])]


def test_fitted_rows_are_standard(name):
    z = FITTED[name].forward(ROWS)[0]
    if name == "bent":
        assert np.all(np.abs(skewness(z)) < 0.3 * np.abs(skewness(ROWS)))
        return
    if name == "centre":
        z = z.reshape(-1, 1)  # one mean and one scale for all values
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-9)
    covariance = np.atleast_2d(np.cov(z.T, bias=True))
    if name == "scale" or name.endswith("by column"):
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


def test_powers_are_fitted_to_a_stationary_point():
    """A wrong gradient would stop elsewhere. Of the posterior: λ ~ N(1, 1), log shift ~ N(−1, 4²),
    centre ~ N(0, 4²), log width ~ N(1, 2²); λ = 0 is a bound."""
    fitted = FITTED["bent"].parts[0]
    two = fitted.two_sided > 0
    assert two.tolist() == [False, False, True]
    mean = np.where(two, [[0.0], [1.0]], [[1.0], [-1.0]])
    spread = np.where(two, [[4.0], [2.0]], [[1.0], [4.0]])

    def loss(parameters):
        first, second = parameters.reshape(2, D)
        bijection = Power(fitted.origin, fitted.scale, first, np.exp(second), fitted.two_sided)
        prior = 0.5 * ((parameters.reshape(2, D) - mean) / spread) ** 2 / len(ROWS)
        return gaussian_nll(bijection) + prior.sum()

    found = np.concatenate([fitted.first, np.log(fitted.second)])
    assert np.abs(optimize.approx_fprime(mean.ravel(), loss, 1e-6)).max() > 0.05
    gradient = optimize.approx_fprime(found, loss, 1e-6)
    at_bound = (np.concatenate([~two, np.zeros(D, bool)])) & (found < 1e-9)
    np.testing.assert_allclose(gradient[~at_bound], 0, atol=5e-4)
    assert np.all(gradient[at_bound] > -5e-4)
    away = found + 0.1 * np.abs(np.random.default_rng(0).normal(size=(20, 2 * D)))
    assert min(map(loss, away)) > loss(found)


def test_power_transforms_suit_bent_rows_better():
    nll = {name: gaussian_nll(bijection) for name, bijection in FITTED.items()}
    assert nll["bent"] < gaussian_nll(Chain.identity((Power,), D)) - 0.5
    np.testing.assert_allclose(nll["power"], nll["bent"], atol=1e-9)
    np.testing.assert_allclose(nll["scale"], nll["whiten"], atol=1e-9)


def test_normal_columns_stay_straight():
    """Bending what is normal would only move its tails, and what is linear between columns."""
    x = np.random.default_rng(1).normal(size=(4000, 3))
    x = np.column_stack([x, x[:, 0] + x[:, 1] + 1e-4 * np.random.default_rng(2).normal(size=4000)])
    fitted = Power.fit(x)
    np.testing.assert_array_equal(fitted.first, 1)
    np.testing.assert_array_equal(fitted.two_sided, 0)


def test_a_product_becomes_linear():
    """c = a b within a thousandth: found by all columns together, and by none alone."""
    rng = np.random.default_rng(3)
    a, b = rng.gamma(5, size=4000), rng.gamma(3, size=4000)
    x = np.column_stack([a, b, a * b * np.exp(1e-3 * rng.normal(size=4000))])
    assert gaussian_nll_of((Power,), x) < gaussian_nll_of((Whitening,), x) - 2


def gaussian_nll_of(families, x):
    """As `gaussian_nll`, of other rows than fitted."""
    half = len(x) // 2
    z, log_det = Chain.fit((*families, Whitening), x[:half]).forward(x[half:])
    return np.mean(0.5 * np.sum(z**2, 1) - log_det)


@pytest.mark.parametrize("scale", [1e-200, 1e60])
def test_extreme_scales(scale):
    x = scale * np.random.default_rng(0).normal(size=(500, 2))
    for families in BIJECTIONS.values():
        chain = Chain.fit(families, x)
        z, log_det = chain.forward(x)
        np.testing.assert_allclose(log_det, -2 * np.log(scale), atol=2)
        np.testing.assert_allclose(chain.inverse(z) / scale, x / scale, atol=1e-9)


def test_covariances_of_few_rows_are_shrunk():
    """500 rows of 120 columns: a Gaussian whitened so is nearer to the truth than the sampled one
    (11 nats) and, as it keeps the factors, than Ledoit and Wolf's (8 nats)."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(120, 5))
    covariance = loadings @ loadings.T + np.eye(120)
    x = rng.multivariate_normal(np.zeros(120), covariance, size=500)
    fitted = Whitening.fit(x)
    assert kl_of_whitening(fitted, covariance) < kl_from(
        LedoitWolf().fit(x).covariance_, covariance
    )
    enough = rng.multivariate_normal(np.zeros(3), covariance[:3, :3], size=1000)
    z, _ = Whitening.fit(enough).forward(enough)
    np.testing.assert_allclose(np.cov(z.T, bias=True), np.eye(3), atol=1e-9)


def kl_of_whitening(fitted, covariance):
    """KL(N(0, Σ) ‖ the Gaussian that T makes standard), but for the means."""
    to_z = (np.diag(1 / fitted.scale) @ fitted.W).T
    return kl_from(np.linalg.inv(to_z.T @ to_z), covariance)


def kl_from(model, truth):
    ratio = np.linalg.solve(model, truth)
    return 0.5 * (np.trace(ratio) - len(truth) - np.linalg.slogdet(ratio)[1])


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        ("skewed", ["power"]),
        ("thin", ["whiten", "power"]),
        ("t", ["power"]),
        ("modes", ["centre", "scale", "whiten"]),
    ],
)
def test_the_standardisation_suits_rows_left_out(law, expected):
    rng = np.random.default_rng(0)
    x = rng.standard_t(2, size=(1000, 2)) if law == "t" else rng.normal(size=(1000, 2))
    if law == "skewed":
        x = np.exp(x)
    if law == "thin":
        x[:, 1] = x[:, 0] + 1e-3 * x[:, 1]
    if law == "modes":  # a power makes them look normal, and no easier to learn
        x = 0.3 * x + np.repeat([[0.0, 0.0], [4.0, 1.0], [1.0, -4.0]], [500, 300, 200], axis=0)
    assert choose(STANDARDISATIONS, x) in expected


def test_few_rows_choose_nothing():
    x = np.random.default_rng(0).normal(size=(19, 2))
    assert choose({"whiten": (Whitening,), "power": (Power,)}, x) == "whiten"


def test_a_row_has_the_same_coordinates_in_any_batch(name):
    """To the last bit: BLAS adds in another order for one row than for many."""
    rng = np.random.default_rng(3)
    x = np.exp(rng.normal(size=(100, 9)) @ rng.normal(size=(9, 9)) / 9)
    c = rng.normal(size=(100, 5))
    parts = Chain.fit(BIJECTIONS[name], x).parts
    condition = Conditioning.fit(c, Chain(parts).forward(x)[0], Whitening)
    chain, c = Chain(parts, condition), condition.standardise(c)
    whole = z, _ = chain.forward(x, c)
    for n in (1, 3, 64):
        blocks = [chain.forward(x[i : i + n], c[i : i + n]) for i in range(0, 100, n)]
        for found, expected in zip(zip(*blocks, strict=True), whole, strict=True):
            np.testing.assert_array_equal(np.concatenate(found), expected)
    back = [chain.inverse(z[i : i + 1], c[i : i + 1]) for i in range(100)]
    np.testing.assert_array_equal(np.concatenate(back), chain.inverse(z, c))
