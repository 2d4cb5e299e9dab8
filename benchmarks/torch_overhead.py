"""How much longer than the native call takes the same log-density in PyTorch?

    python benchmarks/torch_overhead.py --out torch_overhead.json

A model of `--columns` columns after few steps, `--rows` rows in float32. The native call is
`Density.log_likelihood` on the grid that the adapter uses; `score_samples`, which refines it, is
beside it, and with `--gradients` the native gradient and PyTorch's. All take turns in one process,
so that a drifting machine slows all of them. Reported: the median seconds of a call over repeats,
and the median of the ratios within a repeat.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from scoreode import ScoreODE
from scoreode.adapters.torch import Distribution
from scoreode.flow import GridLikelihood


def measure(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every call in turn, compilation left out."""
    seconds = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--gradients", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    n, d = options.rows, options.columns
    rng = np.random.default_rng(0)
    X = rng.normal(size=(max(n, 2000), d)) @ rng.normal(size=(d, d))
    est = ScoreODE(order=1, steps=100, stack=False).fit(X)
    density, p, x = est.fitted_.density, Distribution(est), X[:n]
    tensor = torch.tensor(x, dtype=torch.float32)
    learns = tensor.clone().requires_grad_()
    calls = {
        "native": lambda: density.log_likelihood(x, how=GridLikelihood()),
        "torch": lambda: p.log_prob(tensor),
        "score_samples": lambda: est.score_samples(x),
    }
    if options.gradients:
        calls["score_function"] = lambda: est.score_function(x)
        calls["torch_gradient"] = lambda: torch.autograd.grad(p.log_prob(learns).sum(), learns)
    seconds = measure(calls, options.repeats)
    ratios = {"torch": "native", "torch_gradient": "score_function"}
    found = {
        "rows": n,
        "columns": d,
        "repeats": options.repeats,
        "cores": os.cpu_count(),
        "versions": {name: metadata.version(name) for name in ("jax", "numpy")}
        | {"torch": torch.__version__},
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "median_ratio": {
            f"{ours} / {native}": statistics.median(
                a / b for a, b in zip(seconds[ours], seconds[native], strict=True)
            )
            for ours, native in ratios.items()
            if ours in seconds
        },
    }
    text = json.dumps(found, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
