"""Constants that other tests take from the code, written out as they were published or chosen."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import random_field
from scipy import integrate

from scoreode.calculus import Basis
from scoreode.flow import grid
from scoreode.flow.likelihood import likelihood_record
from scoreode.objective import AdaptiveLikelihood, DenoisingScoreMatching, Ramp
from scoreode.process import VE, VP, SubVP


class Nothing(eqx.Module):
    """A score of 0 everywhere."""

    def __call__(self, x: jax.Array, _t: jax.Array) -> jax.Array:
        return jnp.zeros_like(x)


TIMES = (1e-5, 0.1, 0.25, 0.5, 1.0)
# exp(−¼ t² (20 − 0.1) − ½ · 0.1 t) and √(1 − α²), to ten digits (Song et al. 2021, appendix C).
PUBLISHED = {
    1e-5: (0.9999994995, 0.001000497126),
    0.1: (0.9467217988, 0.3220525355),
    0.25: (0.7236571851, 0.6901596036),
    0.5: (0.2811828808, 0.9596542021),
    1.0: (0.006571586495, 0.9999784069),
}


def integrated(t, beta_0, beta_1):
    """α from ∫ β by quadrature, β(s) = β0 + s (β1 − β0)."""
    whole, _ = integrate.quad(lambda s: beta_0 + s * (beta_1 - beta_0), 0, t)
    return np.exp(-whole / 2)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("t", TIMES)
def test_vp_is_that_of_the_literature(t):
    found = [float(f(jnp.asarray(t))) for f in (VP().alpha, VP().sigma)]
    np.testing.assert_allclose(found, PUBLISHED[t], rtol=1e-9)
    for process in (VP(), VP(0.5, 8.0), SubVP(), SubVP(0.5, 8.0)):
        alpha = integrated(t, process.beta_0, process.beta_1)
        np.testing.assert_allclose(process.alpha(jnp.asarray(t)), alpha, rtol=1e-12)
        variance = (1 - alpha**2) ** (1 if isinstance(process, VP) else 2)
        np.testing.assert_allclose(process.sigma(jnp.asarray(t)) ** 2, variance, rtol=1e-7)


@pytest.mark.usefixtures("x64")
def test_sub_vp_and_ve_are_those_of_the_literature():
    alpha, variance = np.array([PUBLISHED[t] for t in TIMES]).T
    found = jax.vmap(SubVP().sigma)(jnp.asarray(TIMES))
    np.testing.assert_allclose(found, variance**2, rtol=1e-8)
    np.testing.assert_allclose(jax.vmap(SubVP().alpha)(jnp.asarray(TIMES)), alpha, rtol=1e-9)
    ve = jax.vmap(VE().sigma)(jnp.asarray([0.0, 0.25, 0.5, 1.0]))
    np.testing.assert_allclose(ve, [0.01, 0.08408964, 0.7071068, 50.0], rtol=1e-7)


@pytest.mark.usefixtures("x64")
def test_objectives_are_divided_by_d_d2_d2_d3():
    """J1/d + λ1 (J2/d² + J2,tr/d²) + λ2 J3/d³ where nothing else is asked for."""
    d = 3
    objective = DenoisingScoreMatching(VP(), 3, Ramp(0.5), Ramp(0.1))
    x = jr.normal(jr.key(5), (8, d))
    _, (found, _) = eqx.filter_jit(objective)(random_field(d), x, jr.key(6), jnp.asarray(1.0))
    J1, J2, J2_tr, J3 = (float(found[n]) for n in ("first", "second", "second_trace", "third"))
    np.testing.assert_allclose(
        found["loss"], J1 / 3 + 0.5 * (J2 / 9 + J2_tr / 9) + 0.1 * J3 / 27, rtol=1e-12
    )


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_adaptive_weighting_moves_and_draws_as_it_is_defined():
    """Mean squares move by 0.01 a term, of 20 at most a batch; a share of 0.15 stays uniform."""
    process, weighting = VE(), AdaptiveLikelihood()
    low, high = process.log_snr_range()
    places = np.repeat([0.5 / 40, 1.5 / 40], [3, 30])  # in the first bin of forty and the second
    t = jax.vmap(process.t_of_log_snr)(low + (high - low) * jnp.asarray(places))
    terms = jnp.asarray(np.where(places < 1 / 40, 2.0, 0.001))
    seen = weighting.update(process, t, terms)
    expected = np.ones(40)
    expected[0] += 0.03 * (4 - 1)
    expected[1] += 0.2 * (1e-6 - 1)
    np.testing.assert_allclose(seen.mean_square, expected, rtol=1e-9)
    for _ in range(60):
        seen = seen.update(process, t, terms)
    assert seen.mean_square[1] < 1e-4, "where sizes have a floor: a bin is never left for good"
    size = np.sqrt(np.maximum(np.asarray(seen.mean_square), 1e-4))
    probability = 0.15 / 40 + 0.85 * size / size.sum()
    times, weight = seen.sample(process, jr.key(0), 4000)
    place = (jax.vmap(process.log_snr)(times) - low) / (high - low)
    bins = np.clip(np.asarray(place) * 40, 0, 39).astype(int)
    # Draws are stratified: of each bin as many as its probability says, but for one at each end.
    drawn = np.bincount(bins, minlength=40)
    np.testing.assert_allclose(drawn, 4000 * probability, atol=2)
    inside = np.abs(np.asarray(place) * 40 - np.rint(np.asarray(place) * 40)) > 1e-6
    expected = 1 / (40 * probability[bins])
    np.testing.assert_allclose(np.asarray(weight)[inside], expected[inside], rtol=1e-6)


@pytest.mark.slow
def test_the_weighting_sees_the_first_order_per_dimension():
    """Its mean squares begin at 1, about what J1/d is of a new model."""
    x = jr.normal(jr.key(0), (64, 5))
    objective = DenoisingScoreMatching(VE(0.01, 10.0), weighting=AdaptiveLikelihood())
    # A score of 0, of which J1 = ‖ε‖².
    _, (_, after) = objective(Nothing(), x, jr.key(1), jnp.asarray(0.5))
    moved = np.asarray(after.weighting.mean_square) - 1
    # Of a term a hundredth counts. E (‖ε‖²/d)² = 1 + 2/d, and its variance in 5 dimensions is 3.6.
    assert abs(moved.sum() / (0.01 * 64) - 0.4) < 4 * np.sqrt(3.6 / 64)


def exactly(weights, nodes, degree):
    """Σ w s^m over the nodes, for m up to the degree."""
    powers = np.asarray(nodes, float)[None, :] ** np.arange(degree + 1)[:, None]
    return powers @ np.asarray(weights, float)


def test_adams_rules_integrate_polynomials():
    """Over [0, 1], from values at 0, −1 … and, for the corrector, at 1: of k values, to degree k−1.

    What the corrector of order 4 leaves of s⁴ is 19/270 of what it differs from the predictor by
    (Hairer, Nørsett and Wanner 1993, III.1).
    """
    moments = 1 / np.arange(1.0, 6.0)
    for k, weights in enumerate(grid.PREDICT, 1):
        found = exactly(weights, -np.arange(k), k - 1)
        np.testing.assert_allclose(found, moments[:k], rtol=1e-12)
    for k, weights in enumerate(grid.CORRECT, 2):
        found = exactly(weights, 1 - np.arange(k), k - 1)
        np.testing.assert_allclose(found, moments[:k], rtol=1e-12)
    predicted = exactly(grid.PREDICT[3], -np.arange(4), 4)[4]
    corrected = exactly(grid.CORRECT[2], 1 - np.arange(4), 4)[4]
    # Milne's device: |error of the corrector| of |corrector − predictor|.
    assert abs(moments[4] - corrected) / abs(corrected - predicted) == pytest.approx(grid.MILNE)


@pytest.mark.parametrize("n", [16, 40])
def test_the_integrals_weights_are_exact_for_cubics(n):
    """Gregory's, of order 4, and on every second node; halving the step divides errors by 16."""
    predict, correct, fine, coarse = grid._rules(n)
    expected = n ** np.arange(1.0, 5.0) / np.arange(1.0, 5.0)
    for weights in (fine, coarse):
        np.testing.assert_allclose(exactly(weights, np.arange(n + 1), 3), expected, rtol=1e-12)
    assert np.all(coarse[1::2] == 0)
    assert pytest.approx(1 / (2**4 - 1)) == grid.COARSE
    for i in range(n + 1):
        assert np.count_nonzero(predict[i]) == min(i + 1, 4)
        assert np.count_nonzero(correct[i]) == min(i + 2, 4)


def test_a_log_density_that_is_no_number_has_not_converged():
    probes = Basis().draw(jr.key(0), 1, 2, jnp.dtype("float32"))
    for nats, expected in ((1.0, True), (jnp.nan, False), (jnp.inf, False)):
        estimates = jnp.asarray([nats], jnp.float32)
        found = likelihood_record(
            estimates, probes, jnp.asarray(3), jnp.asarray(True), jnp.zeros(2)
        )
        assert bool(found.converged) == expected
