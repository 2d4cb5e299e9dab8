"""Samples are draws of the density that is reported, and that is right below the least row, too.

x ~ p means that the point which the likelihood's own solver carries x to is a draw of the prior:
other solver, other direction, the standardisation's inverse against its forward map.
"""

import numpy as np
import pytest
from scipy import stats

from scoreode import ScoreODE
from scoreode.network import MLP

THIN = 1e-3
N = 4000


def thin(rng, n):
    """Two normal columns that are equal within a thousandth."""
    x = rng.normal(size=n)
    return np.column_stack([x, x + THIN * rng.normal(size=n)])


LAWS = {  # draws of (n, 2), and a bound that no sane draw of N exceeds
    "normal": (lambda rng, n: rng.normal(size=(n, 2)), 8),
    "uniform": (lambda rng, n: rng.uniform(size=(n, 2)), 2),
    "exponential": (lambda rng, n: rng.exponential(size=(n, 2)), 40),
    "t2": (lambda rng, n: rng.standard_t(2, size=(n, 2)), 1e5),
    "log-normal": (lambda rng, n: rng.lognormal(size=(n, 2)), 1e4),
    "collinear": (thin, 8),
}


@pytest.fixture(scope="module")
def fitted():
    """Every law's model, trained for a moment: what is tested holds of any."""
    network = MLP(width=32, depth=2)
    small = {"order": 1, "steps": 200, "network": network, "validation_fraction": 0.0}
    rows = {name: draw(np.random.default_rng(0), 1000) for name, (draw, _) in LAWS.items()}
    return {name: ScoreODE(**small).fit(x) for name, x in rows.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_samples_are_draws_of_the_reported_density(fitted, name):
    est = fitted[name]
    found = est.log_likelihood(est.sample(N, random_state=0))
    assert np.all(found.converged)
    scale = est.fitted_.density.score_model.process.prior_scale()
    latent = np.asarray(found.latent) / float(scale)
    for column in latent.T:
        assert stats.kstest(column, "norm").pvalue > 1e-4
    # The extremes of 2 N normal numbers: in all but 2e-5 of cases.
    assert 2 * N * stats.norm.sf(np.abs(latent).max()) > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_no_sample_is_absurd(fitted, name):
    samples, bound = fitted[name].sample(N, random_state=1), LAWS[name][1]
    assert np.abs(samples).max() < bound


@pytest.mark.parametrize("below", [0.01, 0.1, 0.5])
def test_no_cliff_below_the_least_row(fitted, below):
    """Below a training minimum columns keep their relation, and log p falls as the truth does."""
    least = thin(np.random.default_rng(0), 1000)[:, 0].min()
    x = np.full((1, 2), least - below)
    truth = stats.norm.logpdf(x[0, 0]) + stats.norm.logpdf(0, scale=THIN)
    assert fitted["collinear"].score_samples(x)[0] == pytest.approx(truth, abs=2)
