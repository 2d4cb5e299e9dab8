"""Noise in the cells of a grid: learnt against quadrature, and where the diffusion begins."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats
from standard_errors import assert_mean

from scoreode import ScoreODE
from scoreode.data import from_rows, on_grid
from scoreode.errors import InputError
from scoreode.flow import logit_normal, uniform_noise
from scoreode.model.build import blank_density, prepare
from scoreode.model.config import PROCESSES, STANDARDISATIONS
from scoreode.model.convert import PIXELS
from scoreode.model.defaults import for_table
from scoreode.model.dequantised import RawBytes
from scoreode.model.learnt_noise import WithNoise
from scoreode.model.standardise import Chain
from scoreode.network import MLP, CellNoise
from scoreode.process import VE
from scoreode.score import ScoreModel, Velocity
from scoreode.train.batches import batches

A, B = 0.4, -0.3  # location and log-scale of the noise in every cell
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


def constant(value):
    return lambda z, _log_snr: jnp.full_like(z, value)


def nothing(*_):
    """A loss that trains nothing."""
    return jnp.zeros(()), ({"loss": jnp.zeros(())}, nothing)


class Located(eqx.Module):
    """A location that can be trained, the same in every cell."""

    a: jax.Array

    def __call__(self, z, _log_snr):
        return self.a + 0 * z


def case():
    """The exact score of standard normal rows, cells of width ½, and noise that is not uniform."""
    process = VE(0.005, 30.0)
    silent = constant(0.0)  # which the velocity reads as the score of normal rows
    noise = CellNoise(Located(jnp.asarray(A)), constant(B - np.log(1.6)))
    model = ScoreModel(process, Velocity(), silent, noise=noise)
    bijection = Chain.identity(STANDARDISATIONS["scale"], 1)
    return model, WithNoise.of(nothing, bijection, 0.5)


def bound(a):
    """E [log r − log p(x + u)] in the cell from ¼ to ¾, by Gauss–Hermite."""
    u, log_r = logit_normal(np.full(80, a)[:, None], B, NODES[:, None], np.array([0.5]))
    return WEIGHTS @ (log_r - stats.norm.logpdf(0.25 + u[:, 0])) / WEIGHTS.sum()


@pytest.mark.slow
def test_the_noise_is_trained_by_the_bound_on_its_cells_mass():
    model, loss = case()
    x = jnp.full((512, 1), 0.25)

    @eqx.filter_jit
    def found(key):
        of = eqx.filter_value_and_grad(lambda m: loss(m, x, key, jnp.zeros(())), has_aux=True)
        (value, _), gradient = of(model)
        return value, gradient.noise.location.a

    values, slopes = zip(*map(found, jr.split(jr.key(0), 200)), strict=True)
    # The score is that of N(0, 1) for unit variance at t_min too: σ_min² = 2.5e-5 is not seen.
    assert_mean(np.array(values), bound(A))
    assert_mean(np.array(slopes), (bound(A + 1e-4) - bound(A - 1e-4)) / 2e-4)


@pytest.mark.slow
def test_the_model_is_not_trained_by_the_noise():
    model, loss = case()
    model = replace(model, network=Located(jnp.asarray(0.1)))
    of = eqx.filter_grad(lambda m: loss(m, jnp.full((64, 1), 0.25), jr.key(0), jnp.zeros(()))[0])
    gradient = of(model)
    assert gradient.network.a == 0
    assert gradient.noise.location.a != 0


def pixels(*widths):
    x = np.random.default_rng(0).integers(0, 8, (500, 4)) / 7
    return on_grid(from_rows("X", x, tuple("abcd"), 0, 0.1), widths or (1 / 7,))


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("standardise", ["centre", "scale"])
def test_the_diffusion_begins_where_half_a_cell_is_three_deviations(name, standardise):
    data = pixels()
    options = {"standardise": standardise, "dequantise": "truncated-normal"}
    asked = for_table(450, 4, process=PROCESSES[name], network=MLP(8, 1), **options)
    run, density = prepare(asked, data)
    process = density.score_model.process
    assert process == run.objective.process
    scale = np.max(density.bijection.parts[0].scale)
    t = jnp.asarray(process.t_min, jnp.float32)
    noise = float(process.sigma(t) / process.alpha(t)) * scale
    assert 3 * noise == pytest.approx(1 / 14, rel=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({"dequantise": "variational"}, replace(pixels(), bin_width=None), "no declared grid"),
        ({"dequantise": "truncated-normal"}, pixels(1 / 7, 1 / 7, 0, 1 / 7), "continu"),
        ({"dequantise": "truncated-normal", "standardise": "power"}, pixels(), "mixes or bends"),
    ],
)
def test_what_cannot_be_is_said(options, data, message):
    with pytest.raises(InputError, match=message):
        prepare(for_table(450, 4, process=PROCESSES["ve"], network=MLP(8, 1), **options), data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["variational", "truncated-normal"])
def test_log_masses_are_those_of_the_law(kind, tmp_path):
    """Three values of known probability: masses that sum to no more than 1, and nearly to it."""
    p, values = np.array([0.2, 0.5, 0.3]), np.array([0.0, 1.0, 2.0])
    x = np.repeat(values, (p * 1000).astype(int))[:, None]
    small = {"network": MLP(32, 1, 16, 0.5), "batch_size": 128, "validation_fraction": 0.0}
    est = ScoreODE(order=1, steps=1500, bin_width=1.0, dequantise=kind, **small).fit(x)
    bounds = est.log_likelihood(np.repeat(values, 100)[:, None], samples=4).nats.reshape(3, 100)
    masses = np.exp(bounds.mean(1))
    assert masses.sum() < 1.02
    np.testing.assert_allclose(masses, p, atol=0.04)
    drawn = est.sample(2000, random_state=0)[:, 0]
    assert set(np.unique(drawn)) <= set(values)
    np.testing.assert_allclose([(drawn == v).mean() for v in values], p, atol=0.06)
    est.save(tmp_path / kind)
    again = ScoreODE.load(tmp_path / kind)
    assert again.get_params()["dequantise"] == kind
    np.testing.assert_array_equal(again.score_samples(x[:9]), est.score_samples(x[:9]))


def test_raw_bytes_are_the_published_pixels():
    """2 b/255 − 1 in training, without noise, and 2 (b + u)/256 − 1 in evaluation."""
    b = np.arange(256, dtype=np.uint8)[:, None]
    data = from_rows("bytes", np.repeat(b, 2, 1), ("a", "b"), 0, 0.0, bin_width=1.0)
    density = blank_density(for_table(256, 2, process=VE(), standardise="centre"), 2)
    bijection, noise = Chain((PIXELS,)), RawBytes()
    batch = batches(data, bijection, dequantise=noise)(jr.key(0), 4000)
    expected = 2 * np.arange(256) / 255 - 1
    np.testing.assert_allclose(np.unique(np.asarray(batch)), expected, atol=1e-6)
    uniform = noise.dequantisation(density, uniform_noise(data.bin_width))
    x, log_r = uniform.add_noise(data.train)
    z, log_det = bijection.forward(x)
    fractions = 128 * (z + 1) - data.train
    assert 0 <= fractions.min() < 0.01
    assert 0.99 < fractions.max() < 1
    np.testing.assert_array_equal(log_r, 0)
    np.testing.assert_allclose(log_det, -2 * np.log(128))
