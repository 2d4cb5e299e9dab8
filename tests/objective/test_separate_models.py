"""Matrix-valued heads, and models of the second and third derivatives of log q_t."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from catalogue import gaussian, mixture

from scoreode.network import MLP
from scoreode.network.heads import LowRankHead, SymmetricHead, TraceHead
from scoreode.process import VE, VP
from scoreode.score import SecondScoreModel, ThirdScoreModel, TraceModel
from scoreode.theory.ladder import noisy_points

SPEC = MLP(width=8, depth=1)
LEVEL = 0.3


def answering(entries):
    """A network that returns these entries, whatever it sees."""
    return lambda x, _: jnp.asarray(entries)[: x.size]


@pytest.mark.usefixtures("x64", "strict")
@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_symmetric_head_places_every_entry_once(d):
    n = d * (d + 1) // 2
    S = SymmetricHead(answering(np.arange(1.0, n + 1)))(jnp.ones(d), jnp.asarray(LEVEL))
    np.testing.assert_array_equal(S, S.T)
    np.testing.assert_array_equal(S[np.tril_indices(d)], np.arange(1.0, n + 1))


@pytest.mark.usefixtures("x64", "strict")
@pytest.mark.parametrize(("d", "rank"), [(1, 1), (5, 2), (3, 3)])
def test_a_low_rank_head_is_diagonal_and_signed_outer_products(d, rank):
    rng = np.random.default_rng(0)
    entries, V_0 = rng.normal(size=d + rank + d * rank), rng.normal(size=(d, rank))
    entries[d] = -1.0  # a sign that no V can take over
    found = LowRankHead(answering(entries), jnp.asarray(V_0))(jnp.ones(d), jnp.asarray(LEVEL))
    a, b, V = entries[:d], entries[d : d + rank], V_0 + entries[d + rank :].reshape(d, rank)
    expected = np.diag(a) + sum(b[k] * np.outer(V[:, k], V[:, k]) for k in range(rank))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@eqx.filter_jit
def value_and_gradient(head, x):
    """Of a sum of the head's entries in which no two have the same weight."""

    def total(head):
        F = head(x, jnp.asarray(LEVEL, x.dtype))
        assert F.dtype == x.dtype
        return jnp.sum(F * jnp.cos(jnp.arange(F.size, dtype=x.dtype)).reshape(F.shape))

    return eqx.filter_value_and_grad(total)(head)


@pytest.mark.slow
@pytest.mark.parametrize("build", [LowRankHead.build, SymmetricHead.build, TraceHead.build])
def test_heads_begin_small_and_learn_from_all_their_outputs(build, dtype):
    sizes = (3, 2) if build == LowRankHead.build else (3,)
    head = build(*sizes, SPEC, jr.key(0))
    value, gradient = value_and_gradient(head, jnp.array([0.5, -1.0, 2.0], dtype))
    assert abs(value) < 0.3
    pushed = np.asarray(gradient.network.readout.bias)
    # The low-rank V moves only once b is not zero; V_0 keeps b's own gradient alive.
    assert np.all(np.abs(pushed[: 5 if len(sizes) == 2 else None]) > 1e-3)


def models(process, F):
    """Models of orders 2, 2 (trace) and 3 whose networks answer F times one."""
    return (
        SecondScoreModel(process, lambda x, _: F * jnp.ones((x.size, x.size), x.dtype)),
        TraceModel(process, lambda x, _: F * jnp.ones((), x.dtype)),
        ThirdScoreModel(process, lambda x, _: F * jnp.ones(x.shape, x.dtype)),
    )


@pytest.mark.usefixtures("x64")
def test_a_silent_network_is_the_truth_for_gaussian_data(process):
    oracle = gaussian(process, np.zeros(2), np.eye(2))
    x = jnp.array([0.4, -0.7])
    for t in map(jnp.asarray, (process.t_min, 0.5 * process.t_max, process.t_max)):
        second, trace, third = (model(x, t) for model in models(process, 0.0))
        H = oracle.hessian(x, t)
        np.testing.assert_allclose(second, H, rtol=1e-10, atol=1e-10 * np.abs(H).max())
        np.testing.assert_allclose(trace, np.trace(H), rtol=1e-10)
        np.testing.assert_array_equal(third, 0.0)


@eqx.filter_jit
def asked(oracle, x, t):
    """The F at which models of orders 2 and 3 are the truth."""
    process = oracle.process

    def at(x, t):
        truth = oracle.hessian(x, t), oracle.grad_trace_hessian(x, t)
        (zero2, _, zero3), (one2, _, one3) = ([m(x, t) for m in models(process, F)] for F in (0, 1))
        return (truth[0] - zero2) / (one2 - zero2), (truth[1] - zero3) / (one3 - zero3)

    return jax.vmap(at)(x, t)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", [VE(sigma_max=10.0), VP()], ids=["ve", "vp"])
def test_at_no_time_is_more_than_order_one_asked_of_the_network(process):
    """The scale of what is asked of s2 itself varies by 1/σ², a factor of a million."""
    oracle = mixture(process, 2)
    x, t = noisy_points(oracle, jr.key(0), 4000)
    bins = np.argsort(np.asarray(t)).reshape(20, -1)
    for F in asked(oracle, x, t):
        rms = np.sqrt(np.mean(np.asarray(F).reshape(4000, -1) ** 2, 1))
        assert np.sqrt(np.mean(rms[bins] ** 2, 1)).max() < 5
        assert np.sqrt(np.mean(rms**2)) > 0.1
