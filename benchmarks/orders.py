"""What do orders 2 and 3 bring, how far is order 1 from convergence then, and does J_Diff tell?

    python benchmarks/orders.py run kin40k --data-dir DATA_DIR --out FOLDER --points 3000,12000
    python benchmarks/orders.py run cifar8 --data-dir DATA_DIR --out FOLDER --network ncsnpp \\
        --points 150s --steps 60s --lambda1 1 --lambda2 1 --every 1 --rows 10000
    python benchmarks/orders.py summarise FOLDER --json orders.json --figure orders.png

`run` trains one model by order 1 to each of the points, in steps or seconds, and goes on from there
with the control (order 1), orders 3 and 2, and order 2's trace alone, for equal steps (where
`--steps` is in seconds, as many as order 3 takes in them), and with order 1 for as long as order 3
took. The data are DATA_DIR/NAME.npz, of rows x_train, x_val, x_test or of images x_train, x_test in
bytes; toys and digits go by their names. Each point is a file in FOLDER with the exact NLL and the
SDE's bound of every test row under every model; points whose file is there are not repeated.

`summarise` pairs them: NLL in nats (of images in bits/dim), the difference to the control over
the same rows and noise, J_Diff before, and standard errors. NLL and J_Diff are of rows with the
noise of t_min, where J_Diff is exact; `gain_without_noise` is of the rows themselves.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from scoreode.data import Dataset, sources
from scoreode.data.dataset import from_images
from scoreode.data.images import Images
from scoreode.flow import Refined
from scoreode.model.config import PROCESSES, Run
from scoreode.model.defaults import for_images, for_table
from scoreode.model.fitted import Fitted
from scoreode.network import NCSNpp, Specification
from scoreode.network.unet import halvings
from scoreode.objective import Ramp
from scoreode.theory import Estimate
from scoreode.train.trainer import fit

BRANCHES = {  # order, and which of λ1, its trace's and λ2 act
    "order 3": (3, 1, 1, 1),
    "order 1": (1, 0, 0, 0),
    "order 2": (2, 1, 1, 0),
    "order 2, trace": (2, 0, 1, 0),
}
LONGER = "order 1, longer"
BEFORE, CONTROL = "before", "order 1"
ENDLESS = 10**6  # rows of a toy, for defaults by number of rows


def load(problem: str, folder: Path | None) -> Dataset:
    """A set by name, or the rows or images of a file."""
    path = None if folder is None else folder / f"{problem}.npz"
    if path is None or not path.exists():
        return sources.load_data(problem)
    with np.load(path) as file:
        if file["x_train"].ndim == 4:
            return from_images(problem, Images(file["x_train"], file["x_test"]), 0, 0.02)
    return sources.load_data(str(path))


def network_of(args: argparse.Namespace, data: Dataset) -> Specification | None:
    """None for the default of tables; of images a U-Net or an NCSN++ of reduced width."""
    shape = shape_of(data)
    if shape is None:
        return None
    if args.network == "ncsnpp":
        levels = (1, 2, 2, 2)[: halvings(shape) + 1]
        return NCSNpp(shape, args.width, multipliers=levels, depth=1)
    return replace(for_images(shape), width=args.width)


def shape_of(data: Dataset) -> tuple[int, int, int] | None:
    """Of images with colours; digits are rows."""
    shape = data.image_shape
    return (shape[0], shape[1], shape[2]) if shape is not None and len(shape) == 3 else None


def order_1(args: argparse.Namespace, data: Dataset) -> Run:
    """Training by order 1, validated only at its end, so that the last weights are kept."""
    n = ENDLESS if data.sampler is not None else len(data.train)
    run = for_table(
        n,
        len(data.columns),
        order=1,
        process=PROCESSES["ve"],
        network=network_of(args, data),
        image_shape=shape_of(data),
        steps=1,
        smoothing=0.0,
        seed=args.seed,
        validations=1,
    )
    return replace(run, flip=args.flip, batch_size=args.batch or run.batch_size)


def branch(run: Run, args: argparse.Namespace, name: str) -> Run:
    """A run of one of the orders, from trained weights: at a quarter of the learning rate."""
    order, full, trace, third = BRANCHES[name]
    objective = replace(
        run.objective,
        order=order,
        lambda1=Ramp(args.lambda1 * full),
        lambda1_trace=Ramp(args.lambda1 * trace),
        lambda2=Ramp(args.lambda2 * third),
        every=args.every,
    )
    return replace(run, objective=objective, learning_rate=run.learning_rate / 4)


def budget(text: str) -> dict[str, Any]:
    """`60s` in seconds, `1000` in steps."""
    seconds = text.endswith("s")
    return {
        "steps": None if seconds else int(text),
        "seconds": float(text[:-1]) if seconds else None,
    }


def run(args: argparse.Namespace) -> None:
    data, before = load(args.problem, args.data_dir), None
    args.out.mkdir(parents=True, exist_ok=True)
    test = data.test[np.random.default_rng(0).permutation(len(data.test))[: args.rows]]
    first = order_1(args, data)
    runs = {name: branch(first, args, name) for name in BRANCHES}
    with ThreadPoolExecutor() as pool:
        # Compiled meanwhile, so that seconds are seconds of training.
        start = fit(first, data).density
        compiled = [pool.submit(fit, replace(r, steps=2), data, start=start) for r in runs.values()]
        for number, point in enumerate(args.points.split(",")):
            found = fit(replace(first, **budget(point)), data, start=before)
            before = found.density
            for one in compiled:
                one.result()
            file = args.out / f"{args.problem}-{args.label}-{args.seed}-{number}.npz"
            if not file.exists():
                save(file, args, continuations(found, runs, data, args.steps), test, data)


def continuations(found: Fitted, runs: dict[str, Run], data: Dataset, steps: str) -> Any:
    """The model before, and after every way to go on from it, as they are there."""
    yield BEFORE, found
    equal, seconds = budget(steps), 0.0
    for name, run in runs.items():
        after = fit(replace(run, **equal), data, start=found.density)
        if name == "order 3":
            equal, seconds = budget(str(after.steps)), after.seconds
        yield name, after
    longer = replace(runs[CONTROL], steps=None, seconds=seconds)
    yield LONGER, fit(longer, data, start=found.density)


def save(file: Path, args: argparse.Namespace, models: Any, test: np.ndarray, data: Dataset):
    """The NLLs under every model, written again as soon as there is one more."""
    arrays: dict[str, np.ndarray] = {}
    trained: dict[str, Any] = {}
    for name, fitted in models:
        nlls = fitted.nlls(test, args.seed, Refined(0.05, n_probes=4))
        clean = fitted.log_likelihood(test, args.seed, n_probes=4, tolerance=0.05)
        clean_nll = np.where(clean.converged, -np.asarray(clean.nats), np.nan)
        arrays |= {f"{name}/ode": nlls.ode, f"{name}/bound": nlls.bound, f"{name}/clean": clean_nll}
        trained[name] = {"steps": fitted.steps, "seconds": fitted.seconds}
        setting = {key: str(value) for key, value in vars(args).items()}
        known = {"setting": setting, "d": test.shape[1], "bytes": data.bin_width is not None}
        np.savez(file, record=json.dumps(known | {"trained": trained}), **arrays)
        print(file.stem, name, f"{np.nanmean(nlls.ode):.4f}", trained[name], flush=True)


def summarise(args: argparse.Namespace) -> None:
    records = [record for file in sorted(args.folder.glob("*.npz")) for record in read(file)]
    if args.json:
        args.json.write_text(json.dumps(records, indent=1) + "\n")
    for r in records:
        names = {"nll": "NLL", "gain": "gain", "j_diff_before": "J_Diff before"}
        shown = [f"{name} {r[k][0]:+.4f} ± {r[k][1]:.4f}" for k, name in names.items() if r[k]]
        trained = f"{r['unit']}, {r['steps']} steps, {r['seconds']:.0f} s"
        print(f"{r['point']:28} {r['model']:16}", "  ".join(shown), trained)
    if args.figure:
        draw(records, args.figure)


def read(file: Path) -> list[dict[str, Any]]:
    """The figures of every model of a point; in bits/dim of bytes, else in nats."""
    arrays = np.load(file)
    known = json.loads(str(arrays["record"]))
    scale = 1 / (known["d"] * np.log(2)) if known["bytes"] else 1.0

    def mean(values: np.ndarray) -> list[float]:
        found = Estimate.from_samples(values[np.isfinite(values)] * scale)
        return [float(found.value), float(found.stderr)]

    def gain(over: str, name: str, kind: str = "ode") -> list[float] | None:
        there = f"{over}/{kind}" in arrays
        return mean(arrays[f"{over}/{kind}"] - arrays[f"{name}/{kind}"]) if there else None

    def at_equal_time(name: str, kind: str = "ode") -> list[float] | None:
        return gain(LONGER, name, kind) if name == "order 3" else None

    return [
        {
            "problem": known["setting"]["problem"],
            "point": file.stem,
            "model": name,
            "unit": "bits/dim" if known["bytes"] else "nats",
            "nll": mean(arrays[f"{name}/ode"]),
            "gain": gain(CONTROL, name),
            "gain_at_equal_time": at_equal_time(name),
            "gain_without_noise": gain(CONTROL, name, "clean"),
            "gain_without_noise_at_equal_time": at_equal_time(name, "clean"),
            "j_diff": mean(arrays[f"{name}/ode"] - arrays[f"{name}/bound"]),
            "j_diff_before": mean(arrays[f"{BEFORE}/ode"] - arrays[f"{BEFORE}/bound"]),
            "unconverged": int(np.sum(~np.isfinite(arrays[f"{name}/ode"]))),
            **trained,
        }
        for name, trained in known["trained"].items()
    ]


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """What order 3 gains over order 1 in equal steps, and in equal time, against J_Diff before."""
    import matplotlib.pyplot as plt

    found = [r for r in records if r["model"] == "order 3" and r["gain_at_equal_time"]]
    found = [r for r in found if r["unit"] == "nats"]
    problems = list(dict.fromkeys(r["problem"] for r in found))
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
    panels = {"gain": "in equal steps", "gain_at_equal_time": "in equal time"}
    for axis, (gain, title) in zip(axes, panels.items(), strict=True):
        for number, problem in enumerate(problems):
            points = [(r["j_diff_before"], r[gain]) for r in found if r["problem"] == problem]
            (x, dx), (y, dy) = (np.transpose(values) for values in zip(*points, strict=True))
            axis.errorbar(x, y, dy, dx, "o", color=f"C{number}", ms=4, lw=0.8, label=problem)
        axis.axhline(0, color="0.7", linewidth=0.8)
        axis.axvline(0, color="0.7", linewidth=0.8)
        axis.set(title=title, xlabel="J_Diff before (nats)")
        axis.set_xscale("symlog", linthresh=0.05, linscale=2)
        axis.set_yscale("symlog", linthresh=0.02, linscale=2)
        axis.set_xticks([-0.1, -0.04, -0.02, 0, 0.02, 0.04], minor=False)
        axis.set_xticklabels(["−.1", "−.04", "−.02", "0", ".02", ".04"])
        axis.set_yticks([-0.1, -0.02, -0.01, 0, 0.01, 0.02], minor=False)
        axis.set_yticklabels(["−.1", "−.02", "−.01", "0", ".01", ".02"])
    axes[0].set_ylabel("gain of order 3 over order 1 (nats)")
    axes[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run")
    one.add_argument("problem")
    one.add_argument("--data-dir", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--label", default="default", help="of the setting, in the files' names")
    one.add_argument("--network", choices=("unet", "ncsnpp"), default="unet", help="of images")
    one.add_argument("--width", type=int, default=32, help="of images' network")
    one.add_argument("--flip", action="store_true")
    one.add_argument("--batch", type=int, help="examples a step; by default as many as in fits")
    one.add_argument("--points", default="3000", help="of order 1, one after another")
    one.add_argument("--steps", default="1000", help="from each point on; or seconds of order 3")
    one.add_argument("--lambda1", type=float, default=0.2)
    one.add_argument("--lambda2", type=float, default=0.02)
    one.add_argument("--every", type=int, default=4)
    one.add_argument("--rows", type=int, default=2000, help="test rows")
    one.add_argument("--seed", type=int, default=0)
    one.set_defaults(call=run)
    two = commands.add_parser("summarise")
    two.add_argument("folder", type=Path)
    two.add_argument("--json", type=Path)
    two.add_argument("--figure", type=Path)
    two.set_defaults(call=summarise)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
