"""Which estimate of the divergence is the best for its cost, and are its error bars right?

    python benchmarks/divergence.py RUN DATA --out divergence.json

Along the path of one example the Jacobian's integral is one matrix, whose trace is what log p
needs. It is computed exactly for some rows of a trained run; estimators are then compared on it, by
the variance of the trace for equal numbers k of products with a vector, relative to independent
signs. Hutch++ (Meyer et al. 2021) and XTrace (Epperly et al. 2024) are given the best of cases, the
integrated matrix, for which a real evaluation would have to follow the path twice.

Calibration: z-scores of the default log-density against the exact one, over `--calibrated` rows.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from scoreode.calculus import Gaussian, Hadamard, Rademacher, Sphere
from scoreode.data import sources
from scoreode.flow import Refined, scales
from scoreode.score import ScoreModel
from scoreode.train import saved

PROBES = {
    "signs": Rademacher(),
    "Gaussian": Gaussian(),
    "sphere": Sphere(),
    "orthogonal signs": Hadamard(),
}
DRAWS = 300
Matrix = np.ndarray


def integrated_jacobian(model: ScoreModel, nodes: int, z: jax.Array) -> jax.Array:
    """∫ ∇f dλ along the path of z, by Heun's method and the trapezoid rule."""
    process = model.process
    low, high = process.log_snr_range()
    log_snr = jnp.linspace(high, low, nodes + 1)
    step, t = (low - high) / nodes, jax.vmap(process.t_of_log_snr)(log_snr)
    S, half_sin2 = jax.vmap(partial(scales, process))(t)

    def f(i: jax.Array, y: jax.Array) -> jax.Array:
        return half_sin2[i] * (S[i] * model(S[i] * y, t[i]) + y)

    def advance(carry: tuple, i: jax.Array) -> tuple[tuple, None]:
        y, A = carry
        weight = jnp.where((i == 0) | (i == nodes), 0.5, 1.0)
        A = A + step * weight * jax.jacfwd(lambda y: f(i, y))(y)
        here, after = f(i, y), jnp.minimum(i + 1, nodes)
        return (y + step / 2 * (here + f(after, y + step * here)), A), None

    start = z / S[0], jnp.zeros((z.size, z.size))
    return jax.lax.scan(advance, start, jnp.arange(nodes + 1))[0][1]


def hutchinson(probe, A: Matrix, k: int, seed: int) -> np.ndarray:
    """`DRAWS` estimates from k probes each."""
    keys = jr.split(jr.key(seed), DRAWS)
    v = np.asarray(jax.vmap(lambda key: probe.draw(key, k, len(A), jnp.float32).vectors)(keys))
    return np.einsum("rki,ij,rkj->rk", v, A, v, optimize=True).mean(1)


def signs(rng: np.random.Generator, d: int, k: int) -> Matrix:
    return np.sign(rng.normal(size=(d, k)))


def hutch_pp(A: Matrix, k: int, rng: np.random.Generator) -> float:
    """A third of the products each for a range, its trace, and signs outside of it."""
    third, d = k // 3, len(A)
    Q = np.linalg.qr(A @ signs(rng, d, third))[0]
    G = signs(rng, d, k - 2 * third)
    G -= Q @ (Q.T @ G)
    return np.trace(Q.T @ A @ Q) + np.sum(G * (A @ G)) / (k - 2 * third)


def xtrace(A: Matrix, k: int, rng: np.random.Generator) -> float:
    """k/2 sketches, each left out once, and as many products for their range."""
    m = k // 2
    W = signs(rng, len(A), m)
    Y, terms = A @ W, []
    for i in range(m):
        Q = np.linalg.qr(np.delete(Y, i, axis=1))[0]
        g = W[:, i] - Q @ (Q.T @ W[:, i])
        terms.append(np.trace(Q.T @ A @ Q) + g @ A @ g)
    return float(np.mean(terms))


def variance_ratios(matrices: list[Matrix], k: int) -> dict[str, float]:
    """Mean squared errors over all matrices, relative to independent signs."""
    rng = np.random.default_rng(0)

    def by(draws: Callable[[Matrix], np.ndarray]) -> float:
        return float(np.mean([np.mean((draws(A) - np.trace(A)) ** 2) for A in matrices]))

    found = {
        name: by(lambda A, p=probe: hutchinson(p, A, k, seed=1)) for name, probe in PROBES.items()
    }
    for name, estimate in {"Hutch++": hutch_pp, "XTrace": xtrace}.items():
        found[name] = by(lambda A, e=estimate: np.array([e(A, k, rng) for _ in range(DRAWS)]))
    return {name: value / found["signs"] for name, value in found.items()}


def calibration(model: ScoreModel, z: np.ndarray) -> dict[str, float]:
    shared = model, model.process, jr.key(1)
    exact = Refined(stderr=0)(*shared, z)
    found = Refined()(*shared, z)
    scores = (found.nats - exact.nats) / found.stderr
    return {
        "rows": len(z),
        "z_mean": float(np.mean(scores)),
        "z_std": float(np.std(scores)),
        "stderr_mean": float(np.mean(found.stderr)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data")
    parser.add_argument("--data-dir", type=Path, help="of sets of images")
    parser.add_argument("--matrices", type=int, default=12)
    parser.add_argument("--nodes", type=int, default=80, help="of the integral")
    parser.add_argument("--calibrated", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    fitted, data = saved.load(args.run), sources.load_data(args.data, 0, data_dir=args.data_dir)
    rows = np.resize(
        np.concatenate([data.test, data.validation, data.train]),
        (max(args.calibrated, args.matrices), data.test.shape[1]),
    )
    if fitted.dequantisation is not None:
        rows = fitted.dequantisation.dequantise(rows, 0)
    z, *_ = fitted.density.standardise(rows)
    model = fitted.density.score_model
    jacobian = jax.jit(partial(integrated_jacobian, model, args.nodes))
    matrices = [np.asarray(jacobian(row), np.float64) for row in z[: args.matrices]]
    spectrum = np.linalg.eigvalsh((matrices[0] + matrices[0].T) / 2)
    result = {
        "data": args.data,
        "spectrum_of_the_first": np.round(spectrum, 3).tolist(),
        "variance": {str(k): variance_ratios(matrices, k) for k in (8, 16, 32)},
    }
    for k, ratios in result["variance"].items():
        print(f"k = {k:2}", "  ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    if args.calibrated:
        result["calibration"] = calibration(model, z)
        print(result["calibration"])
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
