"""Candidates for a score of anomaly from one fitted stack: densities, noise, denoising, draws.

Larger is more anomalous. `anomalies.py` compares them.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from anomaly_detectors import Rows, Scores, smooth
from scipy.special import logsumexp

from scoreode.flow import Given, GridLikelihood, Refined, map_rows, rows_at_once, tangents

LEVELS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # σ, in standardised units
DENSITY_LEVELS = (0.1, 0.2, 0.4, 0.8)
DRAWS = 8  # of noise a row and level
NOISE = (0.1, 0.3, 1.0)  # in standard deviations of the columns
_GRID_STEPS = 16
_DRAWN = 4000  # rows
_NETWORKS = 2  # of a stack, whose scores at noise levels are averaged
_BOUNDS = 4  # of a row, each over 16 times


def scores_of_stack(stack: Any, train: Rows, x: Rows, n_test: int) -> Scores:
    """Every candidate for the rows x: those to rank, `n_test`, and then training rows."""
    found = parts_of_stack(stack, x)
    usual = np.mean(found["log p"][n_test:])
    found |= {"typicality": np.abs(found["log p"] - usual)}
    return found | from_noise(stack, x) | from_draws(stack, train, x)


def parts_of_stack(stack: Any, x: Rows) -> Scores:
    """−log p of the stack, of each of its kinds, and of its first diffusion.

    `jacobian` is −log |det ∂T/∂x| of the standardisation z = T(x), whose difference from −log p of
    the diffusions is −log p(z); `latent` is the squared length of what the ODE makes of a row.
    """
    how = Refined(tolerance=0.05, most_steps=160)
    records = [density.log_likelihood(x, 0, how) for density in stack.densities]
    nats = [np.where(np.isfinite(record.nats), record.nats, -np.inf) for record in records]
    log_dets = [density.standardise(x)[1] for density in stack.densities]
    others = [other.log_likelihood(x) for other in stack.others]
    whole = logsumexp(np.stack([*nats, *others], 1) + np.log(stack.weights), axis=1)
    names = ("tail", "mixture", "kernels")
    return {
        "log p": -whole,
        "diffusions": -mean_density(nats),
        "first diffusion": -nats[0],
        "log p(z)": -mean_density([a - b for a, b in zip(nats, log_dets, strict=True)]),
        "jacobian": -np.mean(log_dets, 0),
        "latent": np.mean([np.sum(np.asarray(record.latent) ** 2, 1) for record in records], 0),
        **{name: -other for name, other in zip(names, others, strict=False)},
    }


def mean_density(nats: list[np.ndarray]) -> np.ndarray:
    """The log of the mean of densities."""
    return np.asarray(logsumexp(np.stack(nats, 1), axis=1) - np.log(len(nats)))


def from_noise(stack: Any, x: Rows) -> Scores:
    """Scores at noise levels σ, means over two diffusions of the stack.

    - `q σ`: −log q_t(z), the density of data plus noise, at the row without noise.
    - `denoise σ`: E ‖z − E[z_0 | z + σ ε]‖², the error of denoising.
    - `mean denoise σ`: ‖z − E_ε E[z_0 | z + σ ε]‖², its part that is no noise.
    - `score σ`: σ² ‖∇ log q_t(z)‖² at the row without noise.
    - `bound`: the bound on −log p of the SDE.
    """
    found: dict[str, list[np.ndarray]] = {}
    for density in stack.densities[:_NETWORKS]:
        z = density.standardise(x)[0]
        for level in DENSITY_LEVELS:
            found.setdefault(f"q {level}", []).append(log_q(density, z, level))
        for name, values in errors(density, z).items():
            found.setdefault(name, []).append(values)
        bounds = [density.nll_bound(x, draw) for draw in range(_BOUNDS)]
        found.setdefault("bound", []).append(np.mean(bounds, 0))
    return {
        name: -mean_density(all_) if name.startswith("q ") else np.mean(all_, 0)
        for name, all_ in found.items()
    }


def from_draws(stack: Any, train: Rows, x: Rows) -> Scores:
    """−log p of rows with noise of some standard deviations of every column, but for a constant.

    It is estimated from draws of the diffusions (`draws h`), or from training rows (`rows h`).
    """
    k = len(stack.densities)
    parts = [one.sample(_DRAWN // k, x.shape[1], seed=i) for i, one in enumerate(stack.densities)]
    drawn = np.clip(np.concatenate(parts), train.min(0), train.max(0))
    return {
        f"{name} {h}": smooth(rows, x, h)
        for h in NOISE
        for name, rows in (("draws", drawn), ("rows", train))
    }


def log_q(density: Any, z: Rows, level: float) -> np.ndarray:
    """log q_t of rows: the ODE begins at σ_t."""
    process, grid = density.score_model.process, GridLikelihood(n_steps=_GRID_STEPS)
    later = eqx.tree_at(lambda process: process.t_min, process, time_of(process, level))
    d = z.shape[1]
    chunk = rows_at_once(d, tangents(grid.probe, grid.n_probes, d))
    shared = density.score_model, later, jr.key(0)
    nats = np.asarray(map_rows(Given(grid), shared, (jnp.asarray(z), None), chunk).nats)
    return np.where(np.isfinite(nats), nats, -np.inf)


def time_of(process: Any, level: float) -> Any:
    return process.t_of_log_snr(jnp.asarray(-2 * np.log(level), jnp.float32))


def errors(density: Any, z: Rows) -> Scores:
    """What the network makes of rows at every level."""
    times = jnp.stack([time_of(density.score_model.process, level) for level in LEVELS])
    keys = jax.vmap(lambda i: jr.fold_in(jr.key(0), i))(jnp.arange(len(z)))
    chunk = rows_at_once(z.shape[1], DRAWS)
    found = map_rows(_errors, (density.score_model, times), (keys, z), chunk)
    names = ("denoise", "mean denoise", "score")
    return {
        f"{name} {level}": np.asarray(values[:, j], np.float64)
        for name, values in zip(names, found, strict=True)
        for j, level in enumerate(LEVELS)
    }


def _errors(score: Any, times: Any, key: Any, z: Any) -> Any:
    """‖z − D‖² over draws, ‖z − mean D‖², ‖σ s‖² of one row at every time, with Tweedie's D."""
    eps, process = jr.normal(key, (DRAWS, *z.shape), z.dtype), score.process

    def at(t: Any) -> Any:
        alpha, sigma = process.alpha(t), process.sigma(t)

        def difference(eps: Any) -> Any:
            x = alpha * z + sigma * eps
            return z - (x + sigma**2 * score(x, t)) / alpha

        off = jax.vmap(difference)(eps)
        clean = sigma * score(alpha * z, t)
        return jnp.mean(jnp.sum(off**2, 1)), jnp.sum(jnp.mean(off, 0) ** 2), jnp.sum(clean**2)

    return jax.vmap(at)(times)
