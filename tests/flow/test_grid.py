"""The log-density on a shared grid: its order, its own error estimate, its refinement."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import mixture

from scoreode.calculus import Basis, Rademacher
from scoreode.flow import GridLikelihood, Likelihood, Refined, Solver, map_rows
from scoreode.network import MLP
from scoreode.process import VE, VP
from scoreode.score import ScoreModel, Velocity

TIGHT = Solver(1e-10, 1e-10, max_steps=100_000)
KEY = jr.key(0)


def network(process, d):
    """A smooth random network, large enough in its output to bend the flow."""
    built = MLP(width=16, depth=1).build((d,), jr.key(3))
    bent = eqx.tree_at(lambda net: net.readout.weight, built, replace_fn=lambda w: 15 * w)
    return ScoreModel(process, Velocity(), bent)


def on_grid(score, process, x, n_steps, **options):
    return map_rows(GridLikelihood(n_steps=n_steps, **options), (score, process, KEY), (x,), 64)


def adaptively(score, process, x, **options):
    record = map_rows(Likelihood(solver=TIGHT, **options), (score, process, KEY), (x,), 64)
    assert record.converged.all()
    return record


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_error_falls_with_the_fourth_power_and_is_known(process):
    """A mixture under every process: against an adaptive solver that shares no formula."""
    oracle = mixture(process, 2)
    x = np.asarray(oracle.sample(jr.key(1), 60))
    truth = adaptively(oracle, process, x)
    grids, errors = (64, 128), []
    for n_steps in grids:
        found = on_grid(oracle, process, x, n_steps)
        error = np.abs(found.nats - truth.nats)
        errors.append(error.mean())
        assert found.converged.all()
        assert (found.stderr == 0).all()
        # An estimate to the safe side, and not beyond reason.
        assert 0.02 * found.error.mean() < error.mean() < 0.7 * found.error.mean()
        assert np.mean(error > 2 * found.error + 1e-9) < 0.05
    np.testing.assert_allclose(found.latent, truth.latent, rtol=1e-4, atol=1e-4)
    assert np.log2(errors[0] / errors[1]) > 3.5, errors
    assert errors[-1] < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", [VE(), VP()], ids=["ve", "vp"])
def test_a_network_and_fixed_probes(process):
    """The same probes for the same example: what is left is the error in time."""
    x = np.asarray(jr.normal(jr.key(1), (32, 3)))
    score = network(process, 3)
    for options in ({"probe": Basis()}, {"probe": Rademacher(), "n_probes": 3}):
        truth = adaptively(score, process, x, **options)
        found = on_grid(score, process, x, 128, **options)
        np.testing.assert_allclose(found.nats, truth.nats, atol=1e-4)
        np.testing.assert_allclose(found.stderr, truth.stderr, atol=1e-4)


@pytest.mark.slow
def test_the_cost_is_what_is_counted():
    calls = []

    def counted(x, t):
        jax.debug.callback(lambda: calls.append(1))
        return -x / (1 + t)

    found = GridLikelihood(n_steps=16)(counted, VP(), KEY, jnp.ones(2))
    jax.effects_barrier()
    assert len(calls) == found.nfe == 34


@pytest.mark.slow
def test_images_are_their_rows():
    process = VP()
    flat = network(process, 4)
    image = lambda x, t: flat(x.ravel(), t).reshape(x.shape)  # noqa: E731
    x = jr.normal(jr.key(1), (4,))
    a = GridLikelihood()(flat, process, KEY, x)
    b = GridLikelihood()(image, process, KEY, x.reshape(2, 2))
    np.testing.assert_allclose(a.nats, b.nats, rtol=1e-5)
    assert b.latent.shape == (2, 2)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gradients_are_those_of_the_log_density():
    process = VP()
    oracle, x = mixture(process, 2), jnp.array([0.3, -0.8])
    gradient = jax.grad(lambda x: GridLikelihood(n_steps=256)(oracle, process, KEY, x).nats)(x)
    # With the exact score p_0 is q_0 but for the prior's mismatch, 1e-4 here.
    np.testing.assert_allclose(gradient, oracle(x, jnp.asarray(process.t_min)), atol=2e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gradients_in_the_model_are_finite_differences():
    """By the grid with and without recomputation, and by the adaptive solver's adjoint."""
    process, x = VP(), jnp.array([0.3, -0.8])
    model = network(process, 2)
    weight = lambda model: model.network.readout.weight  # noqa: E731
    direction = jr.normal(jr.key(2), weight(model).shape)

    def along(how):
        moved = lambda h: eqx.tree_at(weight, model, weight(model) + h * direction)  # noqa: E731
        return jax.jit(lambda h: how(moved(h), process, KEY, x).nats)

    grid = along(GridLikelihood(n_steps=64))
    difference = (grid(1e-4) - grid(-1e-4)) / 2e-4
    found = [
        jax.grad(along(how))(0.0)
        for how in (
            GridLikelihood(n_steps=64),
            GridLikelihood(n_steps=64, recompute=True),
            Likelihood(solver=Solver(1e-8, 1e-8)),
        )
    ]
    np.testing.assert_allclose(found[:2], difference, rtol=1e-6)
    np.testing.assert_allclose(found[2], difference, rtol=1e-3)


@pytest.fixture(scope="module")
def rows():
    """A mixture of sharp and broad components: a part of the rows needs a finer grid."""
    process = VE(0.003, 20.0)
    oracle = mixture(process, 2)
    return oracle, process, np.asarray(oracle.sample(jr.key(1), 150))


HOW = Refined(tolerance=1e-3, n_steps=24, chunk=64)


@pytest.mark.slow
def test_rows_are_refined_until_their_error_is_small(rows):
    score, process, x = rows
    found = HOW(score, process, KEY, x)
    assert found.converged.all()
    assert (found.error <= HOW.tolerance).all()
    once, twice = 2 * 24 + 2, 2 * (24 + 48) + 4
    assert set(np.unique(found.nfe)) >= {once, twice}
    truth = map_rows(Likelihood(solver=Solver(1e-6, 1e-6)), (score, process, KEY), (x,), 64)
    assert np.abs(found.nats - truth.nats).mean() < HOW.tolerance


def test_a_row_has_one_value_whatever_its_company(rows):
    """Shuffled and alone; its place in a chunk may change the last bits."""
    score, process, x = rows
    whole = HOW(score, process, KEY, x)
    order = np.random.default_rng(0).permutation(len(x))
    shuffled = HOW(score, process, KEY, x[order])
    np.testing.assert_array_equal(shuffled.nfe, whole.nfe[order])
    for name, few_bits in (("nats", 1e-6), ("error", 1e-3), ("latent", 1e-6)):
        expected = getattr(whole, name)[order]
        np.testing.assert_allclose(getattr(shuffled, name), expected, rtol=few_bits, atol=1e-6)
    finest = int(np.argmax(whole.nfe))
    for i in (0, finest):
        alone = HOW(score, process, KEY, x[i : i + 1])
        np.testing.assert_allclose(alone.nats[0], whole.nats[i], rtol=1e-6, atol=1e-6)


def test_what_no_grid_resolves_is_not_converged(rows):
    score, process, x = rows
    how = Refined(tolerance=0.0, n_steps=16, most_steps=32, chunk=64)
    found = how(score, process, KEY, x[:5])
    assert not found.converged.any()
    assert np.isfinite(found.nats).all()


def test_a_row_that_is_not_finite_spoils_no_other(rows):
    score, process, x = rows
    bad = np.concatenate([x[:3], np.full((1, 2), np.nan, x.dtype)])
    how = Refined(n_steps=24, most_steps=192, chunk=64)
    found = how(score, process, KEY, bad)
    assert not found.converged[3]
    np.testing.assert_array_equal(found.nats[:3], how(score, process, KEY, x[:3]).nats)


@pytest.mark.parametrize("n_steps", [0, 14, 17])
def test_grids_are_even_and_not_too_small(n_steps):
    with pytest.raises(ValueError, match=f"n_steps={n_steps}"):
        GridLikelihood(n_steps=n_steps)


def test_the_finest_grid_is_not_below_the_coarsest():
    with pytest.raises(ValueError, match="most_steps=20"):
        Refined(n_steps=40, most_steps=20)


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("stderr", [0.3, 0.0])
def test_probes_are_added_until_the_standard_error_is_met(stderr):
    process, d = VE(), 20
    score, x = network(process, d), np.asarray(jr.normal(jr.key(1), (40, d)))
    few = Refined(probe=Rademacher(), n_probes=2, chunk=64)
    first = few(score, process, KEY, x)
    exact = Refined(probe=Basis(), chunk=64)(score, process, KEY, x)
    found = eqx.tree_at(lambda how: how.stderr, few, stderr, is_leaf=lambda v: v is None)(
        score, process, KEY, x
    )
    assert (found.stderr <= stderr).all()
    assert (first.stderr > 0.3).any()
    enough = first.stderr <= stderr
    np.testing.assert_array_equal(found.nats[enough], first.nats[enough])
    known = found.stderr == 0
    assert known.all() == (stderr == 0)
    # One grid or the other: both within the tolerance.
    np.testing.assert_allclose(found.nats[known], exact.nats[known], atol=2e-3)
    z = (found.nats - exact.nats)[~known] / found.stderr[~known]
    assert np.all(np.abs(z) < 12)  # two probes: one degree of freedom


@pytest.mark.slow
def test_an_error_far_below_that_of_the_probes_is_left():
    process, d = VE(), 20
    score, x = network(process, d), np.asarray(jr.normal(jr.key(1), (40, d)))
    strict = Refined(tolerance=1e-6, probe=Rademacher(), n_probes=4, n_steps=24, chunk=64)
    found = strict(score, process, KEY, x)
    assert found.converged.all()
    assert (found.error <= found.stderr / 50).all()
    exact = eqx.tree_at(lambda how: how.probe, strict, Basis())(score, process, KEY, x)
    # Work is saved, and what is left does not show beside the probes.
    assert found.nfe.mean() < exact.nfe.mean() / 2
    same = GridLikelihood(Rademacher(), 4, n_steps=320)
    truth = map_rows(same, (score, process, KEY), (x,), 64)
    np.testing.assert_allclose((found.nats - truth.nats) / found.stderr, 0, atol=0.05)


def test_a_single_random_probe_knows_no_error():
    score, x = network(VE(), 3), np.ones((1, 3), np.float32)
    found = on_grid(score, VE(), x, 16, probe=Rademacher(), n_probes=1)
    assert np.isnan(found.stderr[0])
    assert found.converged[0]


def test_a_negative_standard_error_cannot_be_asked_for():
    with pytest.raises(ValueError, match=r"stderr=-0\.1"):
        Refined(stderr=-0.1)
    with pytest.raises(ValueError, match="tolerance=-1"):
        Refined(tolerance=-1)
