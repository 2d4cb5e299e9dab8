"""A function over many rows: in order, in the caller's precision, compiled once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreode.flow import map_rows
from scoreode.flow.batch import chunked


def wave(a, x):
    return jnp.sin(a * x), x.sum()


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
        seen.extend(done for done, _ in chunked(refusing, (), (rows,), chunk=8))
    assert seen == [slice(i, i + 8) for i in range(0, 40, 8)]
