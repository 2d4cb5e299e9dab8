"""What test NLL do density estimators reach on tables in the same training time?

    python benchmarks/tables.py DATA_DIR --seconds 300 --out results.json

Every table is DATA_DIR/NAME.npz with x_train, x_val and x_test. scoreode is run as a user would,
`scoreode fit FILE --seconds S` and `scoreode nll`; zuko's spline and autoregressive flows train for
the same time on the same rows, scikit-learn's mixture of 30 Gaussians until it converges. Reported:
the mean of −log p over the test rows in nats, with its standard error. Each result is appended to
--out as soon as it is there. The peers need `pip install -r benchmarks/requirements.txt`.

On a machine with other work set OMP_WAIT_POLICY=passive: PyTorch's threads spin while they wait.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

METHODS = ("scoreode", "nsf", "maf", "gmm")


def run_scoreode(file: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Default settings, through the command line."""
    command = [sys.executable, "-m", "scoreode"]
    with tempfile.TemporaryDirectory() as folder:
        run, rows = Path(folder) / "run", Path(folder) / "rows.npz"
        options = ["--seconds", str(seconds), "--seed", str(seed), "--out", str(run)]
        started = time.perf_counter()
        subprocess.run([*command, "fit", str(file), *options], check=True)
        fit_seconds = time.perf_counter() - started
        evaluate = [*command, "nll", str(run), str(file), "--json", "--out", str(rows)]
        printed = subprocess.run(evaluate, check=True, capture_output=True, text=True).stdout
        summary, trained = json.loads(printed), json.loads((run / "summary.json").read_text())
    return {
        "test_nll": -summary["nats_mean"],
        "test_nll_se": summary["nats_stderr"],
        "unconverged": summary["unconverged"],
        "seconds": trained["seconds"],
        "seconds_with_startup": fit_seconds,
        "steps": trained["steps"],
        "nll_seconds": summary["seconds"],
        "scoreode": metadata.version("scoreode"),
        "jax": metadata.version("jax"),
    }


def run_peer(method: str, file: Path, seconds: float, seed: int) -> dict[str, Any]:
    """One of `peers`' estimators on the same split."""
    import peers
    import torch

    torch.set_num_threads(cores())
    with np.load(file) as data:
        train, val, test = (data[f"x_{part}"].astype(np.float32) for part in PARTS)
    if method == "gmm":
        fit = peers.fit_gmm(train, seed)
    else:
        fit = {"nsf": peers.fit_nsf, "maf": peers.fit_maf}[method](train, val, seconds, seed)
    nll = -fit(test)
    return {
        "test_nll": float(np.mean(nll)),
        "test_nll_se": float(np.std(nll, ddof=1) / np.sqrt(len(nll))),
        **fit.info,
        **{name: metadata.version(name) for name in ("torch", "zuko", "scikit-learn")},
    }


PARTS = ("train", "val", "test")


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--tables", nargs="+", default=["kin40k", "protein", "power_head48k"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    for table in args.tables:
        for method in args.methods:
            file = args.data_dir / f"{table}.npz"
            if method == "scoreode":
                result = run_scoreode(file, args.seconds, args.seed)
            else:
                result = run_peer(method, file, args.seconds, args.seed)
            record = {"table": table, "method": method, "seed": args.seed} | result
            record |= {"cores": cores(), "machine": platform.machine()}
            records = json.loads(args.out.read_text()) if args.out.exists() else []
            args.out.write_text(json.dumps([*records, record], indent=1) + "\n")
            nll = f"{result['test_nll']:8.4f} ± {result['test_nll_se']:.4f} nats"
            print(f"{table:14} {method:9} {nll}  ({result['seconds']:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
