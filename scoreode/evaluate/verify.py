"""Checks the theory's statements on a trained run.

All of them need the true density; without it, only the consistency checks are made.
"""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from scoreode.errors import InputError
from scoreode.evaluate.truth import is_known, oracle_of
from scoreode.flow import Given, map_rows, rows_at_once
from scoreode.model.fitted import Fitted
from scoreode.model.nlls import NLLs
from scoreode.objective import DenoisingScoreMatching
from scoreode.objective import Likelihood as LikelihoodWeighting
from scoreode.theory import DataPath, Estimate, PathErrors, log_q_0, sde_density, theorem_1
from scoreode.theory.consistency import consistency, round_trip

_TIMES = 5  # times at which errors are listed, equally spaced in log-SNR
_DRAWS_A_ROW = 16  # draws from the known truth per held-out row, for Theorem 1
_ROUNDING = 1e-3  # error of float32 and the solver, relative to the bound
_PROBES = 16  # of the objectives, for every row
_PATHS = 64  # paths of the data ODE, for Theorem 2


def checks(
    fitted: Fitted, rows: np.ndarray, seed: int = 0, c: np.ndarray | None = None
) -> dict[str, Any]:
    """All checks that are possible for this run, by section.

    **Arguments:** `rows`, held-out data in their own units; `c`, their conditions.

    **Cost:** about `_TIMES` solves per row, see `consistency`; with a known truth 16 more, and 128
    without third derivatives.
    """
    if not fitted.data.columns:
        raise InputError(f"{fitted.data.name}: has categories only; the theory is about numbers")
    key, n = jr.key(seed), _DRAWS_A_ROW * len(rows)
    exact = fitted.nlls(rows, seed, c=c)
    if fitted.dequantisation is not None:
        rows = fitted.dequantisation.dequantise(rows, seed)
    z, _, standard_c = fitted.density.standardise(rows, fitted.coded(c, np.isnan(rows)))
    sections = {
        "exact and bound": _nlls(exact),
        "objectives": _objectives(fitted, z, standard_c, key),
        "itself": _consistency(fitted, z, standard_c, key),
    }
    if is_known(fitted):
        sections |= {"theorem 1": _theorem_1(fitted, key, n), "theorem 2": _theorem_2(fitted, key)}
    return sections


def _nlls(nlls: NLLs) -> dict[str, Any]:
    """The NLL of the ODE, the SDE's bound, and J_Diff, their difference, in nats."""
    values = {"nll": nlls.ode, "sde_bound": nlls.bound, "J_Diff": nlls.j_diff}
    converged = np.isfinite(nlls.ode)
    found = {name: Estimate.from_samples(value[converged]) for name, value in values.items()}
    return found | {"unconverged": int(np.sum(~converged))}


def _theorem_1(fitted: Fitted, key: jax.Array, n: int) -> dict[str, Any]:
    oracle, score = oracle_of(fitted), fitted.density.score_model
    terms = theorem_1(oracle, score, key, n)
    names = ("kl_0", "kl_T", "difference", "cauchy_schwarz", "sde_bound")
    values = {name: getattr(terms, name) for name in names}
    values |= {f"J_{k}": getattr(terms.J, k) for k in ("SM", "Diff", "ODE", "Fisher")}
    if oracle.means.shape[1] == 1:
        grid = sde_density(score, oracle.process)
        values["kl_0_sde"] = grid.kl_from(log_q_0(oracle, grid.x[:, None]))
    return values | {"unconverged": terms.J.unconverged}


def _theorem_2(fitted: Fitted, key: jax.Array) -> dict[str, Any]:
    oracle, score = oracle_of(fitted), fitted.density.score_model
    x_0 = (oracle.sample(key, _PATHS),)
    paths: PathErrors = map_rows(DataPath(n_times=64), (oracle, score), x_0, chunk=_PATHS)
    u = paths.bound()
    at = np.linspace(0, paths.t.shape[1] - 1, _TIMES).round().astype(int)
    return {
        "t": paths.t[0, at],
        **{
            f"{name}_rms": np.sqrt(np.mean(getattr(paths, name)[:, at] ** 2, 0))
            for name in ("delta1", "delta2", "delta3")
        },
        "D_F": np.mean(paths.r[:, at] ** 2, 0),
        "E[U^2]": np.mean(u[:, at] ** 2, 0),
        "r_above_u": float(np.mean(paths.r > u * (1 + _ROUNDING))),
        "unconverged": int(np.sum(~paths.converged)),
    }


def _objectives(
    fitted: Fitted, z: np.ndarray, c: np.ndarray | None, key: jax.Array
) -> dict[str, Any]:
    """J1 / d, J2 / d², J2,tr / d², J3 / d³ on held-out rows, uniform in log-SNR."""
    model, d = fitted.density.score_model, z.shape[1]
    objective = DenoisingScoreMatching(model.process, 3, n_probes=_PROBES)
    key_t, key_eps, key_v = jr.split(key, 3)
    t, _ = LikelihoodWeighting().sample(model.process, key_t, len(z))
    eps, keys = np.asarray(jr.normal(key_eps, z.shape)), jr.split(key_v, len(z))
    rows, chunk = (z, eps, np.asarray(t), keys, c), rows_at_once(d, _PROBES, model.hidden_size)
    terms = map_rows(Given(_terms), (model, objective), rows, chunk)
    powers = {"first": 1, "second": 2, "second_trace": 2, "third": 3}
    return {k: Estimate.from_samples(getattr(terms, k) / float(d) ** p) for k, p in powers.items()}


def _terms(model: Any, objective: DenoisingScoreMatching, x_0: Any, eps: Any, t: Any, key: Any):
    return objective.terms(model, x_0, eps, t, key, 3)


def _consistency(
    fitted: Fitted, z: np.ndarray, c: np.ndarray | None, key: jax.Array
) -> dict[str, Any]:
    model = fitted.density.score_model
    low, high = model.process.log_snr_range()
    log_snr = jnp.linspace(low, high, _TIMES)
    times = np.asarray(jax.vmap(model.process.t_of_log_snr)(log_snr))
    checks = consistency(model, model.process, z, times, key, c=c)
    trip = round_trip(model, model.process, z, c=c)
    return {
        "t": times,
        "asymmetry": np.asarray(checks.asymmetry.value),
        "own_score": np.asarray(checks.own_score.value),
        "own_score_stderr": np.asarray(checks.own_score.stderr),
        "round_trip_distance": trip.distance,
        "round_trip_nats": trip.log_density,
        "unconverged": checks.unconverged,
    }


def readable(sections: dict[str, Any]) -> str:
    """The sections as aligned text."""
    lines = []
    for section, rows in sections.items():
        lines.append(section)
        for name, value in rows.items():
            lines.append(f"  {name:20}  {_text(value)}")
    return "\n".join(lines)


def _text(value: Estimate | np.ndarray | float) -> str:
    match value:
        case Estimate():
            return str(value)
        case np.ndarray():
            return "  ".join(f"{number:10.3g}" for number in value)
    return f"{value:g}"


def plain(value: Estimate | np.ndarray) -> list[float]:
    """The value for JSON: an estimate and its standard error, or the numbers over time."""
    if isinstance(value, Estimate):
        return [float(value.value), float(value.stderr)]
    return value.tolist()
