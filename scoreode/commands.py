"""What the shell's commands do, given parsed options."""

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scoreode import fitting, recipes
from scoreode.data import Dataset, tables
from scoreode.data.output import check_suffix, write_columns, write_rows
from scoreode.errors import InputError
from scoreode.flow import LogLikelihood
from scoreode.objective import Ramp
from scoreode.report import figures
from scoreode.report.progress import shown
from scoreode.train import RunFolder

RUNS = Path("runs")


@dataclass(frozen=True)
class FitOptions:
    """`scoreode fit`'s options; None leaves the choice to the recipe."""

    order: int = 3
    process: str = "ve"
    steps: int | None = None
    seconds: float | None = None
    init_from: Path | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    width: int | None = None
    depth: int | None = None
    n_probes: int | None = None
    lambda1: float | None = None
    lambda2: float | None = None
    standardise: str | None = None
    validation: str = "bound"
    validation_fraction: float = 0.1
    patience: int | None = None
    seed: int = 0

    def run(self, data: Dataset) -> recipes.Run:
        """The resolved run for this data."""
        sizes = {"width": self.width, "depth": self.depth}
        lambdas = {"lambda1": self.lambda1, "lambda2": self.lambda2}
        recipes.check_positive(**sizes)
        recipes.check_not_negative(**lambdas)
        run = recipes.for_table(
            *data.train.shape,
            order=self.order,
            process=recipes.named("process", self.process, recipes.PROCESSES),
            steps=self.steps,
            seconds=self.seconds,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            n_probes=self.n_probes,
            standardise=self.standardise,
            validation=self.validation,
            validation_fraction=self.validation_fraction,
            patience=self.patience,
            seed=self.seed,
        )
        constant = {name: Ramp(value) for name, value in lambdas.items() if value is not None}
        given = {name: size for name, size in sizes.items() if size is not None}
        return replace(
            run,
            network=replace(run.network, **given),
            objective=replace(run.objective, **constant),
        )


def fit(source: str, out: Path | None, options: FitOptions) -> None:
    """Trains on a data set into a new folder."""
    data = recipes.load_data(source, options.seed, options.validation_fraction)
    run = options.run(data)
    if options.init_from is None:
        density = fitting.fresh_density(run, data)
    else:
        trained = fitting.load(options.init_from)
        _check_columns(trained, data.columns, source)
        density, run = trained.density, _of_the_same_model(trained.run, run, options)
    folder = RunFolder.create(out or _next_folder(Path(source).stem))
    fitting.write_config(folder, run, fitting.described(data))
    _train(fitting.Trainer(run, data, density, folder), folder)


def _of_the_same_model(trained: recipes.Run, run: recipes.Run, options: FitOptions) -> recipes.Run:
    """`run` with the model of the trained one, which options must not contradict."""
    kept = {
        "process": (recipes.PROCESSES.get(options.process), trained.objective.process),
        "width": (options.width, trained.network.width),
        "depth": (options.depth, trained.network.depth),
        "standardise": (options.standardise, trained.standardise),
    }
    if options.process == FitOptions.process:
        del kept["process"]
    for name, (asked, found) in kept.items():
        if asked not in (None, found):
            raise InputError(
                f"--{name} {getattr(options, name)}: --init-from keeps the model of"
                f" {options.init_from}, which has {found}; leave the option out"
            )
    return replace(
        run,
        network=trained.network,
        parametrisation=trained.parametrisation,
        standardise=trained.standardise,
        objective=replace(run.objective, process=trained.objective.process),
    )


def resume(path: Path) -> None:
    """Continues a run from its newest checkpoint."""
    folder = RunFolder.existing(path)
    run, described = fitting.read_config(folder)
    source = described["name"]
    data = recipes.load_data(source, run.seed, run.validation_fraction)
    if fitting.described(data)["fingerprint"] != described["fingerprint"]:
        raise InputError(f"{source} has changed since the run began; restore it, or fit anew")
    _train(fitting.Trainer.resumed(run, data, folder), folder)


def _train(trainer: fitting.Trainer, folder: RunFolder) -> None:
    order = trainer.run.objective.order
    try:
        with shown(f"order {order}") as observe:
            fitted = trainer.fit(observe)
    except KeyboardInterrupt:
        if not trainer.resumable:
            raise
        command = shlex.join(["scoreode", "fit", "--resume", str(folder.path)])
        message = f"interrupted; the state is saved. Continue with: {command}"
        raise KeyboardInterrupt(message) from None
    print(f"{fitted.steps} steps in {fitted.seconds:.0f} s", end="")
    if fitted.validation_nats is not None:
        kind = "bound on the NLL" if trainer.run.validation == "bound" else "NLL"
        print(f", best validation {kind} {fitted.validation_nats:.4f} nats", end="")
    print(f"\nsaved to {folder.path}; next: scoreode nll {folder.path} {trainer.data.name}")


def nll(run: Path, source: str, *, as_json: bool, out: Path | None, part: str, seed: int) -> None:
    """Evaluates every row and prints the summary."""
    recipes.check_not_negative(seed=seed)
    if out is not None:
        check_suffix(out)
        if out.resolve() == Path(source).resolve():
            raise InputError(f"--out {out}: these are the data; choose another file")
    fitted = fitting.load(run)
    rows, columns = _rows(source, part, seed)
    _check_columns(fitted, columns, source)
    started = time.perf_counter()
    record = fitted.log_likelihood(rows, seed)
    summary = summarised(fitted, record, time.perf_counter() - started)
    if out is not None:
        columns = {
            name: np.asarray(getattr(record, name))
            for name in ("nats", "stderr", "error", "nfe", "converged")
        }
        write_columns(out, columns)
    print(json.dumps(summary) if as_json else _readable(summary))


def summarised(fitted: fitting.Fitted, record: LogLikelihood, seconds: float) -> dict[str, Any]:
    """Means over rows that converged, with standard errors; nats are log-densities."""
    good = record.converged
    n, d = len(record.nats), record.latent.shape[1]
    nats, probe = record.nats[good], record.stderr[good]
    mean = float(np.mean(nats)) if nats.size else None
    return {
        "n": n,
        "d": d,
        "nats_mean": mean,
        "nats_stderr": float(np.std(nats, ddof=1) / nats.size**0.5) if nats.size > 1 else None,
        "probe_stderr": float(np.sqrt(np.sum(probe**2)) / nats.size) if nats.size else None,
        "bits_per_dim": None if mean is None else fitted.bits_per_dim(mean),
        "error_mean": float(np.mean(record.error[good])) if nats.size else None,
        "nfe_mean": float(np.mean(record.nfe)),
        "nfe_quantiles": [int(q) for q in np.quantile(record.nfe, (0.5, 0.95), method="higher")],
        "nfe_max": int(np.max(record.nfe)),
        "unconverged": int(n - np.sum(good)),
        "unconverged_rows": (1 + np.flatnonzero(~good)).tolist(),
        "seconds": seconds,
    }


def _readable(summary: dict[str, Any]) -> str:
    mean, error = summary["nats_mean"], summary["nats_stderr"]
    lines = ["no row converged"]
    if mean is not None:
        spread = "" if error is None else f" ± {error:.4f}"
        lines = [f"log-density {mean:.4f}{spread} nats (mean over {summary['n']} rows)"]
        if summary["probe_stderr"]:
            lines.append(f"of which probes  ± {summary['probe_stderr']:.4f} nats")
        lines.append(f"error of the solution in time about {summary['error_mean']:.1g} nats a row")
    if summary["bits_per_dim"] is not None:
        lines.append(f"bits/dim    {summary['bits_per_dim']:.4f}")
    median, most = summary["nfe_quantiles"]
    lines.append(
        f"network evaluations a row: {median} (median), {most} (95 %), {summary['nfe_max']} (most);"
        f" {summary['seconds']:.1f} s"
    )
    rows = _listed([str(row) for row in summary["unconverged_rows"]])
    left_out = f"{summary['unconverged']} rows not converged, left out: {rows}"
    lines.append(left_out if rows else "all rows converged")
    return "\n".join(lines)


def verify(run: Path, source: str | None, *, as_json: bool, n: int, seed: int) -> None:
    """Measures what the theory says of a run, on held-out rows of its data or of another file."""
    from scoreode.verify import plain, readable, verified

    recipes.check_positive(n=n)
    recipes.check_not_negative(seed=seed)
    fitted = fitting.load(run)
    source = str(source or fitted.data["name"])
    rows, columns = _rows(source, "test" if source in recipes.DATA_NAMES else "validation", seed)
    _check_columns(fitted, columns, source)
    found = verified(fitted, rows[:n], seed)
    print(json.dumps(found, default=plain) if as_json else readable(found))


def sample(run: Path, n: int, out: Path, seed: int) -> None:
    """Draws samples into a file."""
    check_suffix(out, (*tables.SUFFIXES, ".png"))
    recipes.check_not_negative(seed=seed)
    if n < 1:
        raise InputError(f"-n {n}: draw at least one sample")
    fitted = fitting.load(run)
    rows, columns = fitted.sample(n, seed), fitted.data["columns"]
    if out.suffix == ".png":
        shape = fitted.data["image_shape"]
        figure = figures.pictures(rows, tuple(shape)) if shape else figures.points(rows, columns)
        figures.write(figure, out)
    else:
        write_rows(out, rows, columns)
    print(f"{n} samples in {out}")


def list_names() -> None:
    """Prints what has a name."""
    print("data sets:", *recipes.DATA_NAMES)
    print("recipes:  ", *recipes.REPRODUCTIONS)
    print("processes:", *recipes.PROCESSES)


def reproduce(name: str, *, quick: bool, out: Path | None, seed: int) -> None:
    """Runs a reproduction into a new folder."""
    from scoreode.reproduce import REPRODUCE

    recipes.check_not_negative(seed=seed)
    recipes.named("recipe", name, recipes.REPRODUCTIONS)
    folder = RunFolder.create(out or _next_folder(name))
    REPRODUCE[name](folder, quick=quick, seed=seed)


def _next_folder(stem: str) -> Path:
    """The first of runs/stem-1, runs/stem-2 … that does not exist."""
    number = 1
    while (RUNS / f"{stem}-{number}").exists():
        number += 1
    return RUNS / f"{stem}-{number}"


def _rows(source: str, part: str, seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The rows to evaluate, a whole file or a part of a set that has parts; and their columns."""
    if source not in recipes.DATA_NAMES and Path(source).suffix:
        parts, columns = tables.read(source)
        rows = parts.get(part, parts.get("all"))
    else:
        data = recipes.load_data(source, seed)
        rows, columns = getattr(data, part), data.columns
    if rows is None or len(rows) == 0:
        raise InputError(f"{source}: has no {part} rows")
    return rows, columns


def _check_columns(fitted: fitting.Fitted, columns: Sequence[str], source: str) -> None:
    """Raises `InputError` unless these are the columns that the run was trained on, in order."""
    trained = fitted.data["columns"]
    if len(columns) != len(trained):
        raise InputError(
            f"{source}: {len(columns)} columns, but the run was trained on {len(trained)}"
            f" ({_listed(trained)})"
        )
    unnamed = [f"x{i}" for i in range(len(trained))]  # what arrays call theirs
    if list(columns) != trained and unnamed not in (list(columns), trained):
        raise InputError(
            f"{source}: has the columns {_listed(columns)}, but the run was trained on"
            f" {_listed(trained)}; name and order them so"
        )


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:10]) + (", …" if len(columns) > 10 else "")
