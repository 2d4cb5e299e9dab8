"""What test density do standard density estimators reach on these tables in a fixed training time?

Fits a neural spline flow, a masked autoregressive flow (both from zuko) and a Gaussian mixture
(scikit-learn) to each table DATA_DIR/NAME.npz (standardised arrays x_train, x_val, x_test) and
reports the negative log-likelihood of the test rows in nats per row, with its standard error.

    python peers.py DATA_DIR --tables kin40k protein --methods nsf maf gmm --seconds 300 --out peers.json

The flows get a wall-clock budget, validation included; the mixture runs until it stops by itself.
Every fit is appended to the JSON list in --out as soon as it ends. On a machine that other programs
use too, set OMP_WAIT_POLICY=passive: threads that spin while they wait can slow a fit 20 times.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import cos, pi
from pathlib import Path

import numpy as np
import sklearn
import torch
import zuko
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

Array = NDArray[np.float32]
BATCH = 256
LEARNING_RATE = 2e-3
CLIP_NORM = 5.0


@dataclass
class Fit:
    """A fitted density: call it on rows for their log-densities; `info` says how training went."""

    log_prob: Callable[[Array], NDArray[np.float64]]
    info: dict[str, float | int | bool] = field(default_factory=dict)

    def __call__(self, x: Array) -> NDArray[np.float64]:
        return self.log_prob(x)


def flow_log_prob(flow: zuko.flows.Flow, x: torch.Tensor) -> NDArray[np.float64]:
    with torch.no_grad():
        parts = [flow().log_prob(rows) for rows in x.split(4096)]
    return torch.cat(parts).double().numpy()


def train_flow(
    flow: zuko.flows.Flow, train: Array, val: Array, seconds: float, batch: int, lr: float
) -> Fit:
    """Maximum likelihood with Adam for `seconds`; keeps the weights best on `val`."""
    start = time.perf_counter()
    x_train, x_val = torch.from_numpy(train), torch.from_numpy(val)
    parameters = list(flow.parameters())
    optimizer = torch.optim.Adam(parameters, lr=lr)
    best_val, best_epoch, best_weights = float("inf"), 0, copy.deepcopy(flow.state_dict())
    val_nll = train_nll = float("nan")
    epoch = steps = skipped = 0
    running = True
    while running:
        losses: list[float] = []
        for rows in torch.randperm(len(x_train)).split(batch):
            elapsed = time.perf_counter() - start
            if elapsed >= seconds:
                running = False
                break
            optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + cos(pi * elapsed / seconds))
            loss = -flow().log_prob(x_train[rows]).mean()
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
            steps += 1
            if torch.isfinite(loss) and torch.isfinite(norm):
                optimizer.step()
                losses.append(loss.item())
            else:
                skipped += 1
        epoch += running  # counts whole epochs; the last one is usually cut short
        if losses:
            train_nll = float(np.mean(losses))
        val_nll = float(-flow_log_prob(flow, x_val).mean())
        if val_nll < best_val:
            best_val, best_epoch = val_nll, epoch
            best_weights = copy.deepcopy(flow.state_dict())
    flow.load_state_dict(best_weights)
    info: dict[str, float | int | bool] = {
        "seconds": time.perf_counter() - start,
        "epochs": epoch,
        "steps": steps,
        "skipped_steps": skipped,
        "batch": batch,
        "lr": lr,
        "best_epoch": best_epoch,
        "best_val_nll": best_val,
        "last_val_nll": val_nll,
        "last_train_nll": train_nll,
    }
    return Fit(lambda x: flow_log_prob(flow, torch.from_numpy(x)), info)


def fit_nsf(
    train: Array,
    val: Array,
    seconds: float,
    seed: int,
    batch: int = BATCH,
    lr: float = LEARNING_RATE,
) -> Fit:
    """Neural spline flow; zuko's splines act on [-5, 5] and are the identity beyond."""
    torch.manual_seed(seed)
    flow = zuko.flows.NSF(train.shape[1], transforms=5, hidden_features=(128, 128), bins=8)
    return train_flow(flow, train, val, seconds, batch, lr)


def fit_maf(
    train: Array,
    val: Array,
    seconds: float,
    seed: int,
    batch: int = BATCH,
    lr: float = LEARNING_RATE,
) -> Fit:
    """Masked autoregressive flow with affine transforms."""
    torch.manual_seed(seed)
    flow = zuko.flows.MAF(train.shape[1], transforms=5, hidden_features=(128, 128))
    return train_flow(flow, train, val, seconds, batch, lr)


def fit_gmm(train: Array, seed: int, components: int = 30) -> Fit:
    """Gaussian mixture with full covariances, without a time limit."""
    start = time.perf_counter()
    mixture = GaussianMixture(components, covariance_type="full", random_state=seed)
    mixture.fit(train.astype(np.float64))
    info: dict[str, float | int | bool] = {
        "seconds": time.perf_counter() - start,
        "steps": int(mixture.n_iter_),
        "converged": bool(mixture.converged_),
        "components": components,
    }
    return Fit(lambda x: mixture.score_samples(x.astype(np.float64)), info)


def append_json(path: Path, record: dict[str, object]) -> None:
    records = json.loads(path.read_text()) if path.exists() else []
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps([*records, record], indent=1) + "\n")
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--tables", nargs="+", default=["kin40k", "protein", "power_head48k"])
    parser.add_argument(
        "--methods", nargs="+", choices=["nsf", "maf", "gmm"], default=["nsf", "maf", "gmm"]
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="training time of each flow")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--lr", type=float, default=LEARNING_RATE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    threadpool_limits(args.threads)
    setting = {
        "seed": args.seed,
        "threads": args.threads,
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "zuko": zuko.__version__,
        "sklearn": sklearn.__version__,
        "numpy": np.__version__,
    }
    for table in args.tables:
        with np.load(args.data_dir / f"{table}.npz") as data:
            train, val, test = (
                data[key].astype(np.float32) for key in ("x_train", "x_val", "x_test")
            )
        for method in args.methods:
            cpu_start = time.process_time()
            if method == "gmm":
                fit = fit_gmm(train, args.seed)
            else:
                fit_flow = fit_nsf if method == "nsf" else fit_maf
                fit = fit_flow(train, val, args.seconds, args.seed, args.batch, args.lr)
            fit.info["cpu_seconds"] = (
                time.process_time() - cpu_start
            )  # below threads * seconds if shared
            nll = -fit(test)
            mean, error = float(nll.mean()), float(nll.std(ddof=1) / np.sqrt(len(nll)))
            result = {"table": table, "method": method, "test_nll": mean, "test_nll_se": error}
            sizes = {"rows_train": len(train), "rows_test": len(test), "columns": train.shape[1]}
            append_json(args.out, {**result, **fit.info, **sizes, **setting})
            details = " ".join(
                f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                for key, value in fit.info.items()
            )
            print(
                f"{table} {method}: test NLL {mean:.4f} +- {error:.4f} nats/row; {details}",
                flush=True,
            )


if __name__ == "__main__":
    main()
