"""Beyond all training rows the network fades, and no row's ODE runs away."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from scoreode import ScoreODE
from scoreode.data import from_rows
from scoreode.flow import Refined
from scoreode.model.build import prepare
from scoreode.model.config import PROCESSES
from scoreode.model.defaults import for_table
from scoreode.model.density import Density
from scoreode.model.standardise import Chain, Scaling
from scoreode.network import MLP
from scoreode.process import VE, VP
from scoreode.score import ScoreModel, Velocity

SMALL = MLP(width=8, depth=1)


class Runaway(eqx.Module):
    """F = 8 (‖y‖² − 2.5²) y beyond a norm of 2.5: what lies there is driven outwards."""

    def __call__(self, y, log_snr):  # noqa: ARG002
        return 8 * y * jax.nn.relu(jnp.sum(y**2) - 2.5**2)


@pytest.mark.slow
@pytest.mark.parametrize("process", [VE(0.01, 10.0), VP()], ids=["ve", "vp"])
def test_no_row_is_driven_to_infinity(process):
    model = ScoreModel(process, Velocity(), Runaway())
    x, how = np.array([[0.1, 0.2], [2.0, 2.0], [30.0, -40.0]]), Refined(most_steps=96)
    assert not np.isfinite(how(model, process, jax.random.key(0), x).nats[1:]).any()
    found = how(replace(model, radius=4.0), process, jax.random.key(0), x)
    assert np.isfinite(found.nats).all()
    assert np.all(np.linalg.norm(found.latent, axis=1) / process.prior_scale() < 70)
    assert found.nats[0] == pytest.approx(stats.norm.logpdf(x[0]).sum(), abs=1e-3)


def test_within_the_radius_nothing_changes():
    process = VE(0.01, 10.0)
    network = SMALL.build((3,), jax.random.key(0))
    free = ScoreModel(process, Velocity(), network)
    for t in map(jnp.asarray, (process.t_min, 0.5, process.t_max)):
        S = float(jnp.hypot(process.alpha(t), process.sigma(t)))
        x = jnp.array([1.0, -2.0, 2.0]) * S  # of norm 3 in y
        held = replace(free, radius=3.01)
        np.testing.assert_array_equal(held(x, t), free(x, t))


@pytest.mark.parametrize("heavy", [False, True])
def test_no_training_row_is_beyond(heavy):
    rng = np.random.default_rng(0)
    x = rng.standard_t(2, (500, 2)) if heavy else rng.normal(size=(500, 2))
    data = from_rows("x", x, ("a", "b"), 0, 0.1)
    asked = for_table(450, 2, process=PROCESSES["ve"], standardise="scale", network=SMALL)
    run, density = prepare(asked, data)
    z = density.bijection.forward(data.train)[0]
    norm = np.linalg.norm(z, axis=1).max()
    assert run.radius == density.score_model.radius
    assert max(1.15 * norm, 2**0.5 + 3) < run.radius < 1.4 * max(norm, 2**0.5 + 3)
    # What starts from a model has its radius, whatever the rows are.
    again, start = prepare(asked, from_rows("y", 9 * x, ("a", "b"), 0, 0.1), density)
    assert again.radius == start.score_model.radius == run.radius


@pytest.mark.slow
def test_a_model_keeps_it(tmp_path):
    x = np.random.default_rng(0).normal(size=(200, 2))
    est = ScoreODE(order=1, steps=5, network=SMALL).fit(x)
    est.save(tmp_path / "m")
    far = np.array([[9.0, 9.0], [50.0, 0.0]])
    again = ScoreODE.load(tmp_path / "m")
    assert again.fitted_.density.score_model.radius == est.fitted_.run.radius
    np.testing.assert_array_equal(again.score_samples(far), est.score_samples(far))


def test_tails_beyond_it_are_those_of_a_gaussian():
    """log p falls as −‖z‖²/2 there, up to what the flow within the radius adds."""
    process, chain = VE(0.01, 10.0), Chain((Scaling.identity(2),))
    network = MLP(width=16, depth=1).build((2,), jax.random.key(1))
    density = Density(chain, ScoreModel(process, Velocity(), network, radius=5.0))
    x = np.array([[40.0, 0.0], [80.0, 0.0], [0.0, -160.0]])
    nats = density.log_likelihood(x).nats
    np.testing.assert_allclose(nats, stats.norm.logpdf(x).sum(1), rtol=0.02)
