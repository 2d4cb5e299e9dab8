"""Every member of every family by name: the contract tests run over these tables.

A new member is added here and inherits its family's tests; `test_catalogue.py` fails for
a member of the package that was forgotten.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from scoreode import objective, process, score
from scoreode.calculus import probes
from scoreode.data import sources, toy
from scoreode.model import standardise
from scoreode.model.config import OBSERVED, PROCESSES, STANDARDISATIONS
from scoreode.network import DDPM, MLP, DDPMpp, NCSNpp, Specification, UNet
from scoreode.objective import weighting
from scoreode.score import ScoreModel
from scoreode.theory import MixtureOracle


class Trigonometric(process.AbstractProcess):
    """α = cos(πt/2), σ = sin(πt/2): a process that nothing in the package knows of."""

    t_min: float = 1e-3
    t_max: float = 0.999

    def alpha(self, t):
        return jnp.cos(jnp.pi / 2 * t)

    def sigma(self, t):
        return jnp.sin(jnp.pi / 2 * t)


PROCESSES: Mapping[str, Callable[[], process.AbstractProcess]] = {
    **{name: lambda p=p: p for name, p in PROCESSES.items()},
    "ve-paper": process.VE,
    "discrete": process.Discrete,
    "new": Trigonometric,
}

PROBES: Mapping[str, Callable[[], probes.AbstractProbe]] = {
    "rademacher": probes.Rademacher,
    "gaussian": probes.Gaussian,
    "sphere": probes.Sphere,
    "hadamard": probes.Hadamard,
    "basis": probes.Basis,
}

ORDERS = (1, 2, 3)


def uniform_in_t(p: process.AbstractProcess) -> Callable[[float], float]:
    """The paper's λ(t)."""
    return lambda _: 1 / (p.t_max - p.t_min)


def uniform_in_log_snr(p: process.AbstractProcess) -> Callable[[float], float]:
    """The likelihood's λ(t), from g²/σ², which is −dλ/dt for the log-SNR λ."""
    low, high = p.log_snr_range()
    rate = jax.jit(lambda t: p.g2(t) / p.sigma(t) ** 2 / (high - low))
    return lambda t: float(rate(jnp.asarray(t)))


@dataclass(frozen=True)
class Weighted:
    """A weighting, and the λ(t) that it integrates against."""

    make: Callable[[], weighting.AbstractWeighting]
    density: Callable[[process.AbstractProcess], Callable[[float], float]]


def adapted() -> weighting.AdaptiveLikelihood:
    """An adaptive weighting that has seen very unequal terms."""
    fresh = weighting.AdaptiveLikelihood()
    seen = jnp.exp(4 * jnp.sin(jnp.arange(fresh.mean_square.size)))
    return eqx.tree_at(lambda w: w.mean_square, fresh, seen.astype(fresh.mean_square.dtype))


WEIGHTINGS: Mapping[str, Weighted] = {
    "uniform-time": Weighted(weighting.UniformTime, uniform_in_t),
    "uniform-time-independent": Weighted(
        lambda: weighting.UniformTime(stratified=False), uniform_in_t
    ),
    "likelihood": Weighted(weighting.Likelihood, uniform_in_log_snr),
    "likelihood-uniform-t": Weighted(
        lambda: weighting.Likelihood(importance=False), uniform_in_log_snr
    ),
    "adaptive": Weighted(weighting.AdaptiveLikelihood, uniform_in_log_snr),
    "adaptive-used": Weighted(adapted, uniform_in_log_snr),
}


@dataclass(frozen=True)
class Posterior:
    """What is known of x_0, ε and the score given x_t: what a perfect network predicts."""

    x_0: jax.Array
    eps: jax.Array
    score: jax.Array
    alpha_bar: jax.Array
    sigma_bar: jax.Array


@dataclass(frozen=True)
class Parametrised:
    """A parametrisation, and the network output it calls perfect."""

    make: Callable[[], score.AbstractParametrisation]
    target: Callable[[Posterior], jax.Array]


PARAMETRISATIONS: Mapping[str, Parametrised] = {
    "noise": Parametrised(score.Noise, lambda q: q.eps),
    "data": Parametrised(score.Data, lambda q: q.x_0),
    "velocity": Parametrised(score.Velocity, lambda q: q.alpha_bar * q.eps - q.sigma_bar * q.x_0),
    "score": Parametrised(score.Score, lambda q: q.score),
}

NETWORKS: Mapping[str, Specification] = {
    "mlp": MLP(width=16, depth=1),
    "mlp-features": MLP(width=16, depth=2, n_features=4, bandwidth=0.5),
    "unet": UNet((4, 4, 1), width=8, multipliers=(1, 2)),
    "ncsnpp": NCSNpp((4, 4, 1), width=8, multipliers=(1, 2), depth=1, attention=(2,)),
    "ddpm": DDPM((4, 4, 1), width=8, multipliers=(1, 2), depth=1, attention=(2,), groups=4),
    "ddpmpp": DDPMpp((4, 4, 1), width=8, multipliers=(1, 2), depth=1, attention=(2,)),
}

OBJECTIVES: Mapping[str, Callable[[process.AbstractProcess], objective.Objective]] = {
    **{
        f"order-{order}": lambda p, order=order: objective.DenoisingScoreMatching(p, order)
        for order in ORDERS
    },
    "order-3-adaptive": lambda p: objective.DenoisingScoreMatching(
        p, 3, weighting=weighting.AdaptiveLikelihood(), n_probes=2, every=2
    ),
    "order-3-quiet": lambda p: objective.DenoisingScoreMatching(
        p, 3, targets=objective.PosteriorMean(64), noise=objective.Antithetic(), every=2
    ),
    "order-2-exact": lambda p: objective.DenoisingScoreMatching(p, 2, probe=probes.Basis()),
}

TOYS: Mapping[str, Callable[[], toy.AbstractToy]] = {
    name: lambda t=t: t for name, t in sources.TOYS.items()
}

BIJECTIONS: Mapping[str, tuple[type[standardise.AbstractBijection], ...]] = {
    "bent": (standardise.Power,),
    **STANDARDISATIONS,
    **{f"{name}, by column": families for name, families in OBSERVED.items()},
}


class Snapshot(process.AbstractProcess):
    """A process stopped at given α and σ, so that one compilation serves all processes."""

    alpha_t: jax.Array
    sigma_t: jax.Array
    t_min: float = 0.0
    t_max: float = 1.0

    def alpha(self, t):
        return self.alpha_t * t**0

    def sigma(self, t):
        return self.sigma_t * t**0


def mixture(p: process.AbstractProcess, d: int, k: int = 3, seed: int = 0) -> MixtureOracle:
    """A random mixture of mean 0 and covariance I, as the prior takes data to be.

    Its components overlap, so that no derivative of log q is near zero where its mass is.
    """
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(k, 4.0))
    means = 1.2 / np.sqrt(d) * rng.normal(size=(k, d))
    factors = 0.3 * rng.normal(size=(k, d, d)) + 0.5 * np.eye(d)
    covariances = factors @ factors.transpose(0, 2, 1)
    means -= weights @ means
    total = np.einsum("k,kij->ij", weights, covariances + np.einsum("ki,kj->kij", means, means))
    whiten = np.linalg.inv(np.linalg.cholesky(total))
    means, covariances = means @ whiten.T, whiten @ covariances @ whiten.T
    return MixtureOracle(p, jnp.asarray(weights), jnp.asarray(means), jnp.asarray(covariances))


def gaussian(p: process.AbstractProcess, mean: np.ndarray, covariance: np.ndarray) -> MixtureOracle:
    """A mixture of one component."""
    return MixtureOracle(p, jnp.ones(1), jnp.asarray(mean)[None], jnp.asarray(covariance)[None])


class SmallField(eqx.Module):
    """C tanh(A x + b + t), of an array's entries: smooth, and its Jacobian is not symmetric."""

    A: jax.Array
    b: jax.Array
    C: jax.Array

    def __call__(self, x, t):
        hidden = jnp.tanh(self.A @ x.ravel() + self.b + t)
        return (self.C @ hidden).reshape(x.shape)


def random_field(d: int, seed: int = 0) -> SmallField:
    """A score function that is no gradient."""
    rng = np.random.default_rng(seed)
    return SmallField(
        jnp.asarray(rng.normal(size=(4, d))),
        jnp.asarray(rng.normal(size=4)),
        jnp.asarray(rng.normal(size=(d, 4))),
    )


def random_model(p: process.AbstractProcess, d: int, size: float, seed: int = 0) -> ScoreModel:
    """An untrained score model whose network's output is about `size` and not zero."""
    network = MLP(width=16, depth=1, n_features=4, bandwidth=0.3).build((d,), jr.key(seed))
    readout = lambda net: net.readout.weight  # noqa: E731
    network = eqx.tree_at(readout, network, 100 * size * network.readout.weight)
    return ScoreModel(p, score.Velocity(), network)
