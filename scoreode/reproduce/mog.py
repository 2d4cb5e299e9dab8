"""Figures 1, 2 and 3: what order 1 misses on a 1-D mixture of Gaussians, where all is known.

The truth is in closed form, so KL and Fisher divergences are measured rather than bounded.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from matplotlib.figure import Figure

from scoreode.data import sources
from scoreode.evaluate.truth import oracle_of
from scoreode.flow import map_rows
from scoreode.model.fitted import Fitted
from scoreode.report import figures
from scoreode.reproduce import paper
from scoreode.reproduce.orders import ORDERS, Reproduced, nll_and_kl, table, train
from scoreode.theory import (
    AugmentedODE,
    Curves,
    GridDensity,
    Integrals,
    MixtureOracle,
    curves,
    integrals,
    log_q_0,
    sde_density,
)
from scoreode.train import RunFolder

_DRAWS = {True: 1024, False: 4096}  # by `quick`
_TEST_ROWS = {True: 4000, False: 20_000}
_TIMES = {True: 16, False: 32}
_NODES = 4000  # of the quadrature: 50 across the narrowest component
_GRID = 600  # points at which densities are drawn
_CELLS = (1500, 600)  # of the Fokker–Planck equation's grid, and steps
_MARGINALS = (0.0, 0.3, 0.5, 0.7)  # of the way from t_min to T


def mog(folder: RunFolder, *, quick: bool, seed: int, constants: str = "ours") -> Reproduced:
    """Figures 1 to 3: VE ScoreODEs of order 1, 2, 3 on the paper's mixture.

    `constants`, "ours" or "authors", decides what λ1 and σ mean: see `paper.mog`. With both, VE's
    prior has variance 1 + σ_max² for standardised data; the authors' prior has variance σ_max².

    The full setting adds order 1 trained for the time that order 3 took. Writes a run for every
    model, densities.png (Figure 1), marginals.png (Figure 2), fisher.png (Figure 3) and
    summary.json. KL, J_SM = ∫ℓ_SM dt and J_Fisher = ∫ℓ_Fisher dt
    are in nats.
    """
    data = sources.load_data("mixture", seed)
    entropy = sources.TOYS["mixture"].entropy
    settings = {k: paper.mog(k, quick=quick, constants=constants) for k in ORDERS}
    models = {
        str(k): train(folder, f"order-{k}", replace(run, seed=seed), data)
        for k, run in settings.items()
    }
    if not quick:
        longer = replace(models["1"].run, steps=None, seconds=models[str(ORDERS[-1])].seconds)
        models["1, longer"] = train(folder, "order-1-longer", longer, data)

    test, key = data.test[: _TEST_ROWS[quick]], jr.key(seed)
    orders: dict[str, Any] = {}
    over_time: dict[str, Curves] = {}
    for name, fitted in models.items():
        J, over_time[f"order {name}"] = _over_time(fitted, key, quick=quick)
        orders[name] = nll_and_kl(fitted, test, entropy) | {
            "kl": _kl(fitted),
            "J_SM": float(J.SM.value),
            "J_Fisher": float(J.Fisher.value),
            "J_Fisher_stderr": float(J.Fisher.stderr),
        }
    drawn = {
        "densities": _densities(models),
        "marginals": _marginals(models["1"]),
        "fisher": figures.fisher_curves(over_time),
    }
    for stem, figure in drawn.items():
        figures.write(figure, folder.path / f"{stem}.png")
    summary = {
        "name": "mog",
        "quick": quick,
        "constants": constants,
        "entropy": entropy,
        "orders": orders,
    }
    folder.write_summary(summary)
    lines = [table(summary), f"constants: {constants}: {paper.CONSTANTS[constants]}"]
    for name, row in orders.items():
        losses = f"∫ℓ_Fisher dt {row['J_Fisher']:.4g}   ∫ℓ_SM dt {row['J_SM']:.4g}"
        lines.append(f"order {name:9}  {losses}")
    lines.append("figures: " + ", ".join(str(folder.path / f"{stem}.png") for stem in drawn))
    return Reproduced(summary, "\n".join(lines))


def _over_time(fitted: Fitted, key: jax.Array, *, quick: bool) -> tuple[Integrals, Curves]:
    """ℓ_Fisher and ℓ_SM of one model: their integrals, and their course over time."""
    oracle, score = oracle_of(fitted), fitted.density.score_model
    process = score.process
    times = np.linspace(process.t_min, process.t_max, _TIMES[quick], dtype=np.float32)
    J = integrals(oracle, score, key, _DRAWS[quick])
    return J, curves(oracle, score, times, key, _DRAWS[quick] // 32)


def _kl(fitted: Fitted) -> float:
    """KL(q_0 ‖ p_0) in nats, by quadrature over the line: what 20,000 rows cannot resolve."""
    oracle, density = oracle_of(fitted), fitted.density
    z = np.linspace(-4.0, 4.0, _NODES)[:, None]
    x = np.asarray(density.bijection.inverse(z))
    log_p = density.log_likelihood(x).nats - density.standardise(x)[1]
    return GridDensity(z[:, 0], np.exp(log_p)).kl_from(log_q_0(oracle, z))


def _densities(models: dict[str, Fitted]) -> Figure:
    """q_0, p_0^ODE and p_0^SDE of every model, in the units of the data."""
    x = np.linspace(-1.4, 1.1, _GRID)

    def panel(fitted: Fitted) -> dict[str, np.ndarray]:
        oracle, density = oracle_of(fitted), fitted.density
        z, log_det, _ = density.standardise(x[:, None])
        sde = sde_density(density.score_model, density.score_model.process, *_CELLS)
        return {
            "data": np.exp(log_q_0(oracle, z) + log_det),
            "ScoreODE": np.exp(density.log_likelihood(x[:, None]).nats),
            "ScoreSDE": np.exp(sde.log_density(z[:, 0].astype(np.float64)) + log_det),
        }

    panels = {f"order {name}": panel(fitted) for name, fitted in models.items()}
    return figures.lines(x, panels)


def _marginals(fitted: Fitted) -> Figure:
    """q_t, p_t^ODE and p_t^SDE at some times, of x/S, S = √(α² + σ²): one width at every t."""
    oracle, score = oracle_of(fitted), fitted.density.score_model
    process, y = score.process, np.linspace(-3.0, 3.0, _GRID, dtype=np.float32)

    def panel(t: float) -> dict[str, np.ndarray]:
        at = jnp.asarray(t)
        S = float(jnp.hypot(process.alpha(at), process.sigma(at)))
        rows = S * y[:, None], np.full(_GRID, t, np.float32)
        ode = map_rows(AugmentedODE(), (score, process), rows).log_density
        sde = sde_density(score, process, *_CELLS, t=t).log_density(S * y.astype(np.float64))
        truth = map_rows(MixtureOracle.log_density, (oracle,), rows)
        named = {"q_t": truth, "ScoreODE": ode, "ScoreSDE": sde}
        return {name: S * np.exp(log_density) for name, log_density in named.items()}

    low, high = process.t_min, process.t_max
    times = (low + part * (high - low) for part in _MARGINALS)
    return figures.lines(y, {f"t = {t:.2g}": panel(t) for t in times}, "x / S")
