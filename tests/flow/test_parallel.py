"""A function over many rows: in order, in the caller's precision, compiled once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreode.calculus import Hadamard
from scoreode.flow import Refined, map_rows, parallel, rows_at_once
from scoreode.flow.parallel import map_chunks
from scoreode.network import UNet
from scoreode.process import VE
from scoreode.score import Noise, ScoreModel


def wave(a, x):
    return jnp.sin(a * x), x.sum()


@pytest.mark.slow
@given(n=st.integers(1, 70), chunk=st.sampled_from([1, 8, 32]))
def test_rows_come_back_in_order(n, chunk):
    x = np.random.default_rng(n).normal(size=(n, 3))
    with jax.enable_x64(True):
        waves, sums = map_rows(wave, (jnp.asarray(2.0),), (x,), chunk)
    # Threads have a precision of their own: float32 would be off by 1e-8.
    np.testing.assert_allclose(waves, np.sin(2 * x), atol=1e-14)
    np.testing.assert_allclose(sums, x.sum(1), atol=1e-14)


def test_chunks_in_threads_are_compiled_once():
    traces = []

    def traced(x):
        traces.append(x)
        return jnp.tanh(x)

    map_rows(traced, (), (np.ones((64, 5), np.float32),), chunk=2)
    assert len(traces) == 1


def test_what_fails_in_a_chunk_is_raised():
    def refusing(x):
        return eqx.error_if(x, x[0] > 40, "above 40")

    rows = np.arange(64.0, dtype=np.float32)[:, None]
    seen = []
    with pytest.raises(Exception, match="above 40"):
        seen.extend(done for done, _ in map_chunks(refusing, (), (rows,), chunk=8))
    assert seen == [slice(i, i + 8) for i in range(0, 40, 8)]


def test_hidden_states_of_images_stay_in_a_cores_caches():
    """Rows times tangents times hidden values, unless one row alone has more."""
    for side, width in ((8, 8), (12, 32), (28, 16), (32, 128)):
        spec = UNet((side, side, 1), width=width)
        hidden = eqx.filter_eval_shape(spec.build, (side**2,), jr.key(0)).hidden_size
        assert hidden == side**2 * width
        for tangents in (4, 16, 64):
            n = rows_at_once(side**2, tangents, hidden)
            assert n == 1 or n * (1 + tangents) * hidden <= 2**19
            assert n <= rows_at_once(side**2, tangents)
    assert rows_at_once(144, 16, 12**2 * 32) == 4


@pytest.mark.slow
def test_an_image_has_one_value_in_any_number_of_images(monkeypatch):
    monkeypatch.setattr(parallel, "_HIDDEN", 2 * 5 * 4 * 4 * 4)
    network = UNet((4, 4, 1), width=4, multipliers=(1, 2)).build((16,), jr.key(0))
    model = ScoreModel(VE(0.01, 10.0), Noise(), network)
    rows = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    how = Refined(probe=Hadamard(), n_probes=4, n_steps=16, most_steps=16)
    assert rows_at_once(16, 4, model.hidden_size) == 2
    found = [how(model, model.process, jr.key(0), rows[:n]).nats for n in (1, 2, 5)]
    np.testing.assert_array_equal(found[0], found[1][:1])
    np.testing.assert_array_equal(found[1], found[2][:2])
