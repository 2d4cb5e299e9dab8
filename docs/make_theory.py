"""Measures every statement of the theory, and writes the page that walks through them.

    python docs/make_theory.py --measure [NAME …] [--quick]   measure into docs/theory.json; draw
    python docs/make_theory.py --mog RUN RUN …                take Figures 1 to 3 from these runs
    python docs/make_theory.py                                write docs/theory.md

The page holds no number that this script did not put there.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray
from matplotlib.figure import Figure

from scoreode.data.toy import Mixture
from scoreode.flow import Solver, map_rows
from scoreode.network import MLP
from scoreode.objective import DenoisingScoreMatching
from scoreode.process import VE, VP, AbstractProcess
from scoreode.report import figures
from scoreode.score import ScoreModel, Velocity
from scoreode.theory import (
    DataPath,
    Estimate,
    MixtureOracle,
    Theorem1,
    Wrong,
    log_q_0,
    sde_density,
    theorem_1,
)
from scoreode.theory.ladder import error_ladder, noisy_points, slopes
from scoreode.train import Budget, Optimiser, Schedule, TrainState, adam, train

HERE = Path(__file__).parent
RESULTS = HERE / "theory.json"
QUIET_ROWS = 1024  # reference rows, by default
TARGETS = HERE.parent / "benchmarks" / "results" / "targets.json"
PROCESSES: dict[str, AbstractProcess] = {"VE": VE(0.01, 10.0), "VP": VP()}


def standardise(
    weights: np.ndarray, means: np.ndarray, covariances: np.ndarray, process: AbstractProcess
) -> MixtureOracle:
    """A mixture, moved and scaled to mean 0 and mean variance 1."""
    mean = weights @ means
    second = np.einsum("k,kij->ij", weights, covariances)
    centred = means - mean
    scale = np.sqrt(np.trace(second + (weights * centred.T) @ centred) / means.shape[1])
    arrays = weights, centred / scale, covariances / scale**2
    return MixtureOracle(process, *map(jnp.asarray, arrays))


def mixtures() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The paper's in 1-D; five components in 2-D; four in 5-D."""
    rng = np.random.default_rng(0)

    def draw(k: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        factors = 0.25 * rng.normal(size=(k, d, d))
        covariances = factors @ factors.transpose(0, 2, 1) + 0.03 * np.eye(d)
        weights = rng.dirichlet(np.full(k, 5.0))
        return weights, rng.normal(size=(k, d)), covariances

    return {
        "1-D, 3 components": Mixture().components(),
        "2-D, 5 components": draw(5, 2),
        "5-D, 4 components": draw(4, 5),
    }


def stages(oracle: MixtureOracle, steps: int) -> Iterator[tuple[str, ScoreModel]]:
    """A small model of order 1, untrained, after half of its steps, and after all."""
    d = oracle.means.shape[1]
    network = MLP(width=64, depth=2).build((d,), jr.key(0))
    model = ScoreModel(oracle.process, Velocity(), network)
    yield "untrained", model
    loss = DenoisingScoreMatching(oracle.process, order=1)
    optimiser = Optimiser(adam(), Schedule(2e-3), 0.99, 256)
    state = TrainState.initial(model, loss, optimiser)
    for report in train(state, oracle.sample, optimiser, Budget(steps=steps), jr.key(1)):
        if report.step in (steps // 2, steps):
            yield ("trained" if report.step == steps else "half-trained"), report.state.ema


def double(tree: Any) -> Any:
    """The same arrays in float64."""
    return jax.tree.map(lambda a: a.astype(np.float64) if eqx.is_inexact_array(a) else a, tree)


STDERR = 0.01  # of the KL, for both sides of Theorem 1
MOST = 262_144  # draws


def to_precision(
    oracle: MixtureOracle, model: ScoreModel, key: PRNGKeyArray, quick: bool
) -> Theorem1:
    """Theorem 1's terms from as many draws as keep each side's standard error below `STDERR`."""
    n = 1024 if quick else 4096
    while True:
        terms = theorem_1(oracle, model, key, n)
        right = terms.kl_T + terms.J.ODE
        excess = max(terms.kl_0.stderr, right.stderr) / float(STDERR * terms.kl_0.value)
        if quick or excess < 1 or n >= MOST:
            return terms
        # Errors of spread points fall faster than n^-1/2; a third more than their usual rate says.
        n = min(MOST, 1024 * int(np.ceil(1.33 * n * excess**1.4 / 1024)))


def measure_theorem_1(quick: bool) -> list[dict[str, Any]]:
    """Both sides of Theorem 1 for every mixture, process and stage of training."""
    rows, steps = [], 200 if quick else 1600
    for name, components in mixtures().items():
        for process_name, process in PROCESSES.items():
            oracle = standardise(*components, process)
            for stage, model in stages(oracle, steps):
                started = time.perf_counter()
                with jax.enable_x64(True):
                    truth = standardise(*components, process)
                    key = jr.fold_in(jr.key(2), len(rows))
                    terms = to_precision(truth, double(model), key, quick)
                row = {"data": name, "process": process_name, "stage": stage}
                row |= describe(terms) | {"seconds": time.perf_counter() - started}
                rows.append(row)
                print(row, flush=True)
    return rows


def describe(terms: Theorem1) -> dict[str, Any]:
    """Values and standard errors in nats; the two sides' difference in standard errors."""

    def pair(estimate: Estimate) -> list[float]:
        return [float(estimate.value), float(estimate.stderr)]

    names = ("kl_0", "kl_T", "cauchy_schwarz", "sde_bound")
    found: dict[str, Any] = {name: pair(getattr(terms, name)) for name in names}
    found |= {f"J_{k}": pair(getattr(terms.J, k)) for k in ("SM", "Diff", "ODE", "Fisher")}
    return found | {
        "z": float(terms.difference.z()),
        "draws": terms.J.n,
        "unconverged": terms.J.unconverged,
    }


def measure_theorem_2(quick: bool) -> dict[str, Any]:
    """D_F and the bound E[u²] over time, and ‖r‖ ≤ u at every point, for a wrong score."""
    found: dict[str, Any] = {"sizes": {}}
    for size in (0.01, 0.03, 0.1):
        with jax.enable_x64(True):
            oracle = standardise(*mixtures()["1-D, 3 components"], PROCESSES["VE"])
            score = Wrong.random(oracle, oracle.process, jnp.float64(size), 1, jr.key(3))
            x_0 = np.asarray(oracle.sample(jr.key(4), 4 if quick else 10))
            # In one dimension the bound is at places an equality: steps and solver have to be fine.
            along = DataPath(384, Solver(1e-8, 1e-8, max_steps=100_000))
            paths = map_rows(along, (oracle, score), (x_0,), chunk=len(x_0))
            u = paths.bound()
        found["t"] = paths.t[0].tolist()
        found["sizes"][str(size)] = {
            "D_F": np.mean(paths.r**2, 0).tolist(),
            "bound": np.mean(u**2, 0).tolist(),
            "points": int(paths.r.size),
            "above": int(np.sum(paths.r > u * (1 + 1e-3))),
            "unconverged": int(np.sum(~paths.converged)),
        }
    return found


LADDER = ("second", "second_trace", "third", "third_bound", "third_printed", "meng")


def measure_ladder(quick: bool) -> dict[str, Any]:
    """Errors of the minimisers of separate objectives as δ1 shrinks, in 2-D."""
    with jax.enable_x64(True):
        oracle = standardise(*mixtures()["2-D, 5 components"], PROCESSES["VP"])
        wrong = Wrong.random(oracle, oracle.process, jnp.float64(1), 2, jr.key(5))
        sizes = jnp.logspace(-3, 0, 10)
        x, t = noisy_points(oracle, jr.key(6), 1000 if quick else 10_000)
        errors = error_ladder(oracle, wrong, sizes, x, t)
        of_jacobian = error_ladder(oracle, wrong, sizes, x, t, jacobian=True)
        slope = {name: float(getattr(slopes(errors), name)) for name in LADDER}
        slope["third_of_jacobian"] = float(slopes(of_jacobian).third)
    found = {name: np.asarray(getattr(errors, name)).tolist() for name in ("delta1", *LADDER)}
    found["third_of_jacobian"] = np.asarray(of_jacobian.third).tolist()
    return {"points": len(x), "errors": found, "slopes": slope}


def measure_proposition_1(quick: bool) -> dict[str, Any]:
    """KL(q_0 ‖ p_0^SDE) and KL(q_0 ‖ p_0^ODE) under equally wrong scores, Gaussian and not."""
    found = {}
    one = np.array([1.0]), np.zeros((1, 1)), np.ones((1, 1, 1))
    for name, components in {"Gaussian": one, "mixture": Mixture().components()}.items():
        oracle = standardise(*components, PROCESSES["VE"])
        score = (
            oracle
            if name == "Gaussian"
            else Wrong.random(oracle, oracle.process, jnp.float32(0.1), 1, jr.key(3))
        )
        grid = sde_density(score, oracle.process)
        terms = theorem_1(oracle, score, jr.key(7), 1024 if quick else 4096)
        found[name] = {
            "kl_sde": grid.kl_from(log_q_0(oracle, grid.x[:, None])),
            "kl_ode": float(terms.kl_0.value),
            "sde_bound": float(terms.sde_bound.value),
        }
    return found


def take_mog(runs: list[Path]) -> dict[str, Any]:
    """Means and standard errors over the seeds of `scoreode reproduce mog`; the first's figures."""
    summaries = [json.loads((run / "summary.json").read_text())["orders"] for run in runs]
    for name in ("densities.png", "marginals.png", "fisher.png"):
        shutil.copy(runs[0] / name, HERE / "figures" / f"mog-{name}")
    keys = ("kl", "J_SM", "J_Fisher", "train_seconds")
    rows = {}
    for order in summaries[0]:
        values = {key: np.array([summary[order][key] for summary in summaries]) for key in keys}
        rows[order] = {
            key: [float(v.mean()), float(v.std(ddof=1) / len(v) ** 0.5) if len(v) > 1 else 0.0]
            for key, v in values.items()
        }
    return {"seeds": len(runs), "orders": rows}


def draw(results: dict[str, Any]) -> None:
    """bound.png and ladder.png from the measurements."""
    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axis, found = figure.subplots(), results["theorem_2"]
    for color, (size, curves) in enumerate(found["sizes"].items()):
        axis.plot(found["t"], curves["D_F"], f"C{color}", label=f"$D_F$, error {size}")
        axis.plot(found["t"], curves["bound"], f"C{color}--")
    axis.set(xlabel="t", yscale="log", title="Theorem 2: $D_F$ and its bound (dashed)")
    axis.legend(frameon=False, fontsize="small")
    figures.write(figure, HERE / "figures" / "theory-bound.png")

    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axis, errors = figure.subplots(), results["ladder"]["errors"]
    labels = {
        "second": "$s_2$",
        "second_trace": "$s_2^{tr}$",
        "third": "$s_3$ on $s_2^*$",
        "third_of_jacobian": "$s_3$ on $\\nabla\\hat s_1$",
        "meng": "Meng",
    }
    for name, label in labels.items():
        slope = results["ladder"]["slopes"][name]
        axis.plot(errors["delta1"], errors[name], ".-", label=f"{label}, slope {slope:.2f}")
    axis.set(xlabel="$\\delta_1$", ylabel="error", xscale="log", yscale="log")
    axis.legend(frameon=False, fontsize="small")
    figures.write(figure, HERE / "figures" / "theory-ladder.png")


def value(pair: list[float]) -> str:
    """A value with its standard error."""
    return str(Estimate(*pair))


def theorem_1_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| data | process | model | KL(q₀‖p₀) | KL(q_T‖p_T) + J_ODE | J_SM | J_Diff | z |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        right = Estimate(*row["kl_T"]) + Estimate(*row["J_ODE"])
        lines.append(
            f"| {row['data']} | {row['process']} | {row['stage']} | {value(row['kl_0'])} | {right}"
            f" | {value(row['J_SM'])} | {value(row['J_Diff'])} | {row['z']:+.1f} |"
        )
    return "\n".join(lines)


def mog_table(found: dict[str, Any]) -> str:
    lines = [
        "| order | KL(q₀‖p₀), nats | ∫ℓ_Fisher dt | ∫ℓ_SM dt | training, s |",
        "|---|---|---|---|---|",
    ]
    for order, row in found["orders"].items():
        cells = (value(row[key]) for key in ("kl", "J_Fisher", "J_SM"))
        lines.append(f"| {order} | {' | '.join(cells)} | {row['train_seconds'][0]:.0f} |")
    return "\n".join(lines)


def targets_table(found: dict[str, Any], size: int) -> str:
    """The share of a single draw's noise that is left, of orders 1, 2 and 3, by σ and in all."""
    wanted = [sigma for sigma in found["sigmas"] if 0.09 < sigma < 2.2][::2]
    lines = [
        f"| table | {' | '.join(f'σ = {sigma:.2g}' for sigma in wanted)} | all σ |",
        "|---" * (len(wanted) + 2) + "|",
    ]
    column = found["sizes"].index(size)
    for name, table in found["tables"].items():
        by_sigma = dict(zip(found["sigmas"], table["by_sigma"], strict=True))
        shares = [*(by_sigma[sigma][column] for sigma in wanted), table["total"][column]]
        cells = (" / ".join(f"{share:.2f}" for share in orders) for orders in shares)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ladder_table(found: dict[str, Any]) -> str:
    names = {
        "second": "‖s2* − ∇²log q‖, Theorem 3",
        "second_trace": "error of s2tr* against tr ∇²log q, Corollary 1",
        "third": "‖s3* − ∇tr∇²log q‖, Theorem 4, with ŝ2 = s2*",
        "third_of_jacobian": "‖s3* − ∇tr∇²log q‖, Theorem 4, with ŝ2 = ∇ŝ1",
        "meng": "‖s2* − ∇²log q‖, Meng et al.'s objective",
    }
    lines = ["| error at the optimum | slope against δ1 |", "|---|---|"]
    lines += [f"| {label} | {found['slopes'][name]:.3f} |" for name, label in names.items()]
    return "\n".join(lines)


def page(results: dict[str, Any]) -> str:
    """docs/theory.md."""
    one, two = results["theorem_1"], results["theorem_2"]
    worst = max(abs(row["z"]) for row in one)
    relative = max(
        max(row["kl_0"][1], np.hypot(row["kl_T"][1], row["J_ODE"][1])) / row["kl_0"][0]
        for row in one
    )
    above = sum(size["above"] for size in two["sizes"].values())
    points = sum(size["points"] for size in two["sizes"].values())
    gaussian, mixture = (results["proposition_1"][name] for name in ("Gaussian", "mixture"))
    mog = results["mog"]
    return f"""# The theory, measured

Every statement of the paper is a function of `scoreode.theory`. This page compares each with a
closed form: a mixture of Gaussians stays a mixture of Gaussians under every linear process.
`docs/make_theory.py` writes the page. All divergences are in nats, and ± is one standard error.

## Three densities, not one

q_t is the density of the data with noise. p_t^SDE is the density of the reverse SDE with the
learned score, and p_t^ODE that of the ODE with the same score. The three differ if the score is not
exact. The likelihood is that of the ODE. The figure shows the data (grey), the ScoreODE, and the
ScoreSDE (dashed; computed by its Fokker–Planck equation, an independent method), after training by
order 1, 2 and 3 with equal networks and steps (`scoreode reproduce mog`).

![Densities of orders 1, 2, 3 on the mixture](figures/mog-densities.png)

The recipe `mog` takes the paper's VE, σ from 0.01 to 50, and its coefficients, λ1 = 0.5 and
λ2 = 0.1, from the first step. Three things differ from the authors' toy code. The paper's objective
weights J2 + J2,tr by λ1. In one dimension J2 and J2,tr are the same number, so scoreode counts it
twice; the authors' code counts it once. σ is in standard deviations of the data (0.61) here, and in
the units of the data there. And the targets are [quiet](#what-quiet-targets-leave-of-the-noise)
here. `scoreode reproduce mog --constants authors` takes theirs.

The next figure shows the same three densities between the data and the prior, for order 1, in units
of √(α² + σ²). They agree where there is only noise, and separate as t falls.

![q_t, p_t^ODE and p_t^SDE over time](figures/mog-marginals.png)

**Proposition 1.** With linear drift, p^SDE = p^ODE only for Gaussians. For Gaussian data and their
exact score, KL(q₀‖p₀^SDE) = {gaussian["kl_sde"]:.1e} and KL(q₀‖p₀^ODE) = {gaussian["kl_ode"]:.1e}.
For the paper's mixture and a score with an error, they are {mixture["kl_sde"]:.4f} and
{mixture["kl_ode"]:.4f}. The divergence of the SDE stays below its bound KL(q_T‖p_T) +
J_SM = {mixture["sde_bound"]:.4f}; that of the ODE can exceed it.

## Theorem 1: what score matching leaves out

KL(q₀‖p₀^ODE) = KL(q_T‖p_T^ODE) + J_SM + J_Diff,

where J_Diff = ½∫g² E_q (s − ∇log q)ᵀ(∇log p^ODE − s) dt. Score matching minimises only J_SM. The
table gives both sides, measured by different methods: the left by a change of variables, the right
by the model's own score, which solves a separate ODE. z is their difference in standard errors. The
largest |z| is {worst:.1f}, and no standard error of either side is above {100 * relative:.2f} % of
the KL:

{theorem_1_table(one)}

Each row is a small network of order 1: untrained, after half of its training, or trained. The
function is `scoreode.theory.theorem_1`.

## Why high orders: the Fisher divergence

By the Cauchy–Schwarz inequality, KL(q₀‖p₀) ≤ KL(q_T‖p_T) + √(J_SM · J_Fisher), with
J_Fisher = ∫ℓ_Fisher dt and ℓ_Fisher = ½g² D_F(q_t‖p_t^ODE). Score matching of order 1 does not
control J_Fisher. The table is for the 1-D mixture: means over {mog["seeds"]} seeds, equal networks,
4000 steps. "1, longer" is order 1 for the time of order 3:

{mog_table(mog)}

With single draws in place of quiet targets the same networks and steps end at
{", ".join(value(row["kl"]) for row in results["mog_of_draws"]["orders"].values())}.

![ℓ_Fisher and ℓ_SM over time](figures/mog-fisher.png)

**Theorem 2** bounds D_F by the errors of the score and of its first two derivatives: D_F ≤ E[U²].
We solved for U along paths of the data ODE, for scores with errors of known size. ‖∇log p − ∇log q‖
exceeded U by more than 0.1 % at {above} of {points} points:

![D_F and its bound](figures/theory-bound.png)

The bound holds and is loose, because it adds up the norm of the data ODE's Jacobian and ignores
signs.

## What quiet targets leave of the noise

The gradient of every objective is linear in its target, so the target may be its mean given x_t and
{QUIET_ROWS} other rows: the expected gradient [stays](mathematics.md#quiet-targets), and only its
noise falls. The table gives the noise that is left, relative to a single draw's: the mean squared
deviation of the targets of orders 1 / 2 / 3 from those over all rows, which have none
(`benchmarks/targets.py`). "All σ" is the ratio of sums over 19 σ from 0.01 to 10, equally spaced in
their logarithm:

{targets_table(json.loads(TARGETS.read_text()), QUIET_ROWS)}

Where no other row is near, at small σ, nothing is gained; there pairs of opposite noise help.

## High-order denoising score matching, bounded by lower orders

Separate models learn ∇²log q, its trace, and ∇tr∇²log q, from a given ŝ1 with error δ1. The table
gives the slope of their errors, at {results["ladder"]["points"]} points:

{ladder_table(results["ladder"])}

![Errors against δ1](figures/theory-ladder.png)

Theorems 3 and 4 hold, with one correction: in Theorem 4 the last factor must be δ1; the poster
prints δ1². With δ, Δ and τ the errors of ŝ1, ŝ2 and tr ŝ2, s3* = ∇tr∇²log q + (τ − ‖δ‖²)δ + 2Δδ. So
‖s3* − ∇tr∇²log q‖ ≤ (δ1² + δ2,tr + 2δ2) δ1, with equality for Δ = −c δδᵀ.

**Proposition 2.** The older objective of Meng et al. (2021) has the optimum ∇²log q + ssᵀ − ŝ1ŝ1ᵀ.
Its error is of first order in δ1. It grows with ‖∇log q‖, without bound.
"""


MEASURES: dict[str, Callable[[bool], Any]] = {
    "theorem_2": measure_theorem_2,
    "ladder": measure_ladder,
    "proposition_1": measure_proposition_1,
    "theorem_1": measure_theorem_1,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measure", nargs="*", choices=MEASURES, help="these, or all, anew")
    parser.add_argument("--quick", action="store_true", help="with few steps and draws")
    parser.add_argument("--mog", type=Path, nargs="+", help="folders of `scoreode reproduce mog`")
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if args.mog:
        results["mog"] = take_mog(args.mog)
    if args.measure is not None:
        for name in args.measure or MEASURES:
            results[name] = MEASURES[name](args.quick)
        draw(results)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    (HERE / "theory.md").write_text(page(results))


if __name__ == "__main__":
    main()
