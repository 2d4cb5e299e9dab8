"""Densities that are known: the Gaussian with the moments of its rows, and one given conditions."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from untrained import untrained

from scoreode import ScoreODE
from scoreode.data import Description, condition_on, from_rows
from scoreode.model.defaults import for_table
from scoreode.model.density import Density
from scoreode.model.fitted import Fitted
from scoreode.model.standardise import Chain, Conditioning, Scaling, Whitening
from scoreode.network import MLP
from scoreode.process import VE
from scoreode.score import Score, ScoreModel
from scoreode.train import trainer


def gaussian(X: np.ndarray) -> ScoreODE:
    """A fit to X with all weights put to zero, with which the score is a Gaussian's."""
    tiny = {"order": 1, "steps": 1, "network": MLP(width=16, depth=1), "batch_size": 32}
    est = ScoreODE(**tiny, standardise="whiten", validation_fraction=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "train", untrained)
        est.fit(X)
    zero = lambda leaf: jnp.zeros_like(leaf) if eqx.is_array(leaf) else leaf  # noqa: E731
    density = eqx.tree_at(
        lambda density: density.score_model.network,
        est.fitted_.density,
        replace_fn=lambda net: jax.tree.map(zero, net),
    )
    values, vectors = np.linalg.eigh(np.corrcoef(X.T))  # not shrunk, however few the rows
    moments = Whitening(X.mean(0), X.std(0), vectors / np.sqrt(values))
    density = replace(density, bijection=Chain((moments,)))
    est.fitted_ = replace(est.fitted_, density=density)
    return est


A = np.array([[0.8, -0.5, 0.0], [0.3, 0.0, -1.0]])
S = np.array([0.4, 0.7])
X_MEAN, X_SCALE = np.array([3.0, -200.0]), np.array([0.5, 10.0])
C_MEAN, C_SCALE = np.array([0.0, 50.0, -1.0]), np.array([1.0, 20.0, 0.1])
_VE = VE(sigma_min=0.01, sigma_max=10.0)


class _GivenMean(eqx.Module):
    """∇log N(z; A c, S² + σ²), as a network sees z and t."""

    A: jax.Array
    S: jax.Array

    def __call__(self, y: jax.Array, log_snr: jax.Array, c: jax.Array) -> jax.Array:
        variance = jnp.exp(-log_snr)
        return -(y * jnp.sqrt(1 + variance) - self.A @ c) / (self.S**2 + variance)


def conditional_gaussian() -> Fitted:
    """Of x given c, whose mean is linear in c, by a score model that knows it."""
    network = _GivenMean(jnp.asarray(A, jnp.float32), jnp.asarray(S, jnp.float32))
    condition = Conditioning(Scaling(C_MEAN, C_SCALE), np.zeros((3, 2)), None)
    bijection = Chain((Scaling(X_MEAN, X_SCALE),), condition)
    density = Density(bijection, ScoreModel(_VE, Score(), network))
    both = np.random.default_rng(0).normal(size=(30, 5))
    data = condition_on(from_rows("pairs", both, ("x", "y", "a", "b", "c"), 0, 0.0), "abc")
    run = for_table(30, 2, process=_VE)
    return Fitted(run, density, Description.of(data), 0, 0.0, None)


def moments(c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviations of x given c: the prior N(0, 1 + σ_T²), carried by the ODE."""
    shrunk = np.sqrt((S**2 + 0.01**2) / (S**2 + 100))
    mean = (c - C_MEAN) / C_SCALE @ A.T * (1 - shrunk)
    return X_MEAN + X_SCALE * mean, X_SCALE * shrunk * np.sqrt(101)
