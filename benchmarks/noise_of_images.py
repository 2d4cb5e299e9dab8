"""Do orders 2 and 3 gain likelihood on images, or on images with the noise of t_min?

    python benchmarks/noise_of_images.py mnist --data-dir DATA_DIR --phases 575,2717 --out out.json

A U-Net is trained by order 1, in phases of so many steps, each with a learning rate that falls to
0, and goes on for `--steps` by order 1 and by order 3, from the same weights and with λ1 = λ2 = 1,
as in orders.py. The theory speaks of images with noise of σ at t_min. Of images x + k σ ε, k from 0
to 1 and ε the same for all, this measures the gain of order 3 in bits/dim, with its standard error
over images. At t_min and k = 1 it also has, a dimension, the means of σ² tr ∇s and of σ² ‖s‖²,
which have the sum 0 for the true score, and of ‖σ s + ε‖², which order 1 minimises.
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from orders import branch, load, order_1

from scoreode.data import Dataset
from scoreode.flow import Refined, uniform_noise
from scoreode.model.density import Density
from scoreode.theory import Estimate
from scoreode.train.trainer import fit

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the noise, in σ at t_min
HOW = Refined(0.05, n_probes=4)


def measure(density: Density, x: np.ndarray, eps: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Means at t_min, and the log-densities at every level of noise, in bits/dim."""
    process, d = density.score_model.process, x.shape[1]
    unit = float(np.ravel(density.bijection.parts[0].scale)[0])  # of standardised pixels
    sigma = unit * float(process.sigma(jnp.float32(process.t_min)))
    noisy = x + sigma * eps
    trace, _ = density.laplacian(noisy, process.t_min, n_probes=4)
    score = sigma * density.network_score(noisy, process.t_min)
    levels = [
        -np.asarray(density.log_likelihood(x + k * sigma * eps, how=HOW).nats) for k in LEVELS
    ]
    bits = np.stack(levels) / (d * math.log(2))
    found = {
        "trace": float(np.mean(trace)) * sigma**2 / d,
        "squared_score": float(np.mean(score**2)),
        "squared_error": float(np.mean((score + eps) ** 2)),
        "bits_per_dim": dict(zip(map(str, LEVELS), np.mean(bits, 1).tolist(), strict=True)),
    }
    return found, bits


def images(data: Dataset, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Test images, dequantised, and their noise."""
    rng = np.random.default_rng(0)
    test = data.test[rng.permutation(len(data.test))[:n]]
    noise = uniform_noise(data.bin_width, data.bin_edge)
    assert noise is not None
    return noise.dequantise(test, 0), rng.normal(size=test.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("problem")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--phases", default="575,2717", help="steps of order 1")
    parser.add_argument("--steps", type=int, default=100, help="by each order from there")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    options = {"network": "unet", "flip": False, "lambda1": 1.0, "lambda2": 1.0, "every": 1}
    setting = argparse.Namespace(**options, **vars(args))
    data = load(args.problem, args.data_dir)
    run, density = order_1(setting, data), None
    for steps in map(int, args.phases.split(",")):
        density = fit(replace(run, steps=steps), data, start=density).density
    x, eps = images(data, args.rows)
    result: dict[str, Any] = {"setting": {k: str(v) for k, v in vars(args).items()}}
    bits = {}
    for name in ("order 1", "order 3"):
        further = replace(branch(run, setting, name), steps=args.steps)
        result[name], bits[name] = measure(fit(further, data, start=density).density, x, eps)
        print(name, result[name], flush=True)
    for level, gains in zip(LEVELS, bits["order 1"] - bits["order 3"], strict=True):
        gain = Estimate.from_samples(gains)
        result[f"gain at {level}"] = [float(gain.value), float(gain.stderr)]
        print(
            f"noise of {level} σ: gain {gain.value:+.4f} ± {gain.stderr:.4f} bits/dim", flush=True
        )
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
