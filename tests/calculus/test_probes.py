"""Probes: E[Σ w v vᵀ] = I, so that Σ w vᵀ A v estimates tr A."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import PROBES
from standard_errors import assert_mean

pytestmark = pytest.mark.usefixtures("strict")

RANDOM = [name for name, make in PROBES.items() if not make().exact]
INDEPENDENT = [name for name in RANDOM if name != "hadamard"]
D = 5
DRAWS = 20_000


def symmetric_part(A):
    return (A + A.T) / 2


# Var[vᵀ A v] of one probe.
TRACE_VARIANCE = {
    "rademacher": lambda A: 2 * (np.sum(symmetric_part(A) ** 2) - np.sum(np.diag(A) ** 2)),
    "gaussian": lambda A: 2 * np.sum(symmetric_part(A) ** 2),
    "hadamard": lambda A: 2 * (np.sum(symmetric_part(A) ** 2) - np.sum(np.diag(A) ** 2)),
    "sphere": lambda A: 2 * D / (D + 2) * (np.sum(symmetric_part(A) ** 2) - np.trace(A) ** 2 / D),
}


@pytest.fixture(params=PROBES)
def probe(request):
    return PROBES[request.param]()


@eqx.filter_jit
def draws(probe, k, dtype):
    keys = jr.split(jr.key(0), DRAWS // k)
    return jax.vmap(lambda key: probe.draw(key, k, D, dtype))(keys)


@eqx.filter_jit
def second_moments(drawn):
    return jnp.einsum("r,rki,rkj->rij", drawn.weight, drawn.vectors, drawn.vectors)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 4])
def test_shape_weight_and_dtype(probe, dtype, n):
    drawn = probe.draw(jr.key(0), n, D, dtype)
    k = D if probe.exact else n
    assert drawn.vectors.shape == (k, D)
    assert drawn.vectors.dtype == drawn.weight.dtype == dtype
    np.testing.assert_allclose(drawn.weight, 1.0 if probe.exact else 1 / k, rtol=1e-6)


@pytest.mark.slow
def test_weighted_outer_products_average_to_the_identity(probe, dtype):
    assert_mean(second_moments(draws(probe, 4, dtype)), np.eye(D))


def test_exact_means_every_draw(probe, dtype):
    error = np.abs(np.asarray(second_moments(draws(probe, 4, dtype))) - np.eye(D)).max()
    assert (error < 1e-12) == probe.exact


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", RANDOM)
def test_trace_estimate_is_unbiased_and_has_its_variance(name):
    A = np.random.default_rng(1).normal(size=(D, D))  # not symmetric
    v = np.asarray(draws(PROBES[name](), 4, jnp.dtype("float64")).vectors).reshape(-1, D)
    estimates = np.einsum("ni,ij,nj->n", v, A, v)
    assert_mean(estimates, np.trace(A))
    assert_mean((estimates - np.trace(A)) ** 2, TRACE_VARIANCE[name](A))


@pytest.mark.parametrize("name", INDEPENDENT)
def test_probes_of_one_draw_are_independent(name):
    v = draws(PROBES[name](), 4, jnp.dtype("float32")).vectors
    assert_mean(np.einsum("ri,rj->rij", v[:, 0], v[:, 1]), 0)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), [(3, 5), (6, 8), (8, 5), (4, 12)])
def test_the_mean_of_a_draw_has_the_variance_that_its_spread_tells(probe, n, d):
    """`variance` corrects for probes that are not independent, and is 0 where none is left."""
    A = jnp.asarray(np.random.default_rng(1).normal(size=(d, d)), jnp.float32)

    @jax.vmap
    def estimated(key):
        drawn = probe.draw(key, n, d, jnp.dtype("float32"))
        terms = jnp.einsum("ki,ij,kj->k", drawn.vectors, A, drawn.vectors)
        told = drawn.variance * jnp.var(terms, ddof=1) / len(terms)
        return drawn.weight * jnp.sum(terms) - jnp.trace(A), told

    error, told = map(np.asarray, estimated(jr.split(jr.key(0), DRAWS)))
    if told.any():
        assert_mean(error**2 - told, 0)
    else:
        np.testing.assert_allclose(error, 0, atol=1e-4)


def test_all_rows_of_a_hadamard_matrix_are_exact():
    drawn = PROBES["hadamard"]().draw(jr.key(0), 99, D, jnp.dtype("float32"))
    assert drawn.vectors.shape == (8, D)
    assert drawn.variance == 0
    np.testing.assert_allclose(drawn.weight * drawn.vectors.T @ drawn.vectors, np.eye(D))
