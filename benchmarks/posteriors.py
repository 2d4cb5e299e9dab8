"""How near do conditional densities come to posteriors that are known?

    python benchmarks/posteriors.py gaussian --out benchmarks/results/posterior_gaussian.json
    python benchmarks/posteriors.py moons --out benchmarks/results/posterior_moons.json

Parameters θ are drawn from a prior, observations x from a simulator; `fit(θ, x)` learns p(θ | x).

gaussian: θ ~ N(0, I) and x = A θ + noise, in five dimensions each. moons: the two moons of the
benchmark of simulation-based inference (Lueckmann et al. 2021), θ uniform on a square.

Reported: the mean over fresh x of KL(posterior ‖ model) in nats, as the mean of log p(θ | x) less
the model's on fresh pairs, and the accuracy of classifiers that have to tell samples of the exact
posterior from the model's (C2ST; 0.5 is the best), the larger of two, for a few observations each.
Seconds are on the clock and of the processor, compilation included.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scoreode import ScoreODE
from scoreode.process import VE

PAIRS = 100_000  # to train on


@dataclass(frozen=True)
class Gaussian:
    """θ ~ N(0, I); x | θ ~ N(A θ, S): the posterior is N(G x, (I + Aᵀ S⁻¹ A)⁻¹)."""

    A: np.ndarray
    S: np.ndarray

    @classmethod
    def random(cls, d: int, rng: np.random.Generator) -> "Gaussian":
        return cls(rng.normal(size=(d, d)) / d**0.5, 0.1 * np.eye(d) + 0.05)

    def pairs(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """θ and x."""
        d = len(self.A)
        theta = rng.normal(size=(n, d))
        return theta, theta @ self.A.T + rng.multivariate_normal(np.zeros(d), self.S, n)

    def _posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """G and the precision."""
        precision = np.eye(len(self.A)) + self.A.T @ np.linalg.solve(self.S, self.A)
        return np.linalg.solve(precision, self.A.T @ np.linalg.inv(self.S)), precision

    def log_posterior(self, theta: np.ndarray, x: np.ndarray, rng: Any) -> np.ndarray:  # noqa: ARG002
        G, precision = self._posterior()
        e = theta - x @ G.T
        log_det = np.linalg.slogdet(precision / (2 * np.pi))[1]
        return 0.5 * (log_det - np.einsum("ni,ij,nj->n", e, precision, e))

    def sample(self, n: int, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """n exact draws of θ given one x."""
        G, precision = self._posterior()
        return rng.multivariate_normal(G @ x, np.linalg.inv(precision), n)


class TwoMoons:
    """θ ~ U[−1, 1]²; x = shift(θ) + p, with p on a half-circle of radius about 0.1.

    shift keeps areas and takes ±(θ_0 + θ_1) to the same: every p = x − shift(θ) has two θ. So p is
    drawn, and of its θ those in the square are the posterior's; how many, its normalisation.
    """

    radius, width, centre = 0.1, 0.01, np.array([0.25, 0.0])

    def _noise(self, n: int, rng: np.random.Generator) -> np.ndarray:
        angle = rng.uniform(-np.pi / 2, np.pi / 2, n)
        r = rng.normal(self.radius, self.width, n)
        return np.stack([r * np.cos(angle), r * np.sin(angle)], 1) + self.centre

    def _shift(self, theta: np.ndarray) -> np.ndarray:
        a, b = theta.T
        return np.stack([-np.abs(a + b), b - a], 1) / 2**0.5

    def _inverse(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both θ of every shift q, and whether they are in the square: (2, n, 2), (2, n)."""
        sums, difference = np.stack([q[:, 0], -q[:, 0]]) * 2**0.5, q[:, 1] * 2**0.5
        theta = np.stack([sums - difference, sums + difference], 2) / 2
        return theta, (q[:, 0] <= 0) & np.all(np.abs(theta) <= 1, 2)

    def pairs(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """θ and x."""
        theta = rng.uniform(-1, 1, (n, 2))
        return theta, self.simulate(theta, rng)

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An x of every θ."""
        return self._shift(theta) + self._noise(len(theta), rng)

    def log_likelihood(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(x | θ) of every row."""
        p = x - self._shift(theta) - self.centre
        r = np.hypot(*p.T)
        log_p = -0.5 * ((r - self.radius) / self.width) ** 2
        log_p -= np.log(self.width * (2 * np.pi) ** 0.5 * np.pi * r)
        return np.where(p[:, 0] < 0, -np.inf, log_p)

    def log_posterior(
        self, theta: np.ndarray, x: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Normalised by 20,000 draws a row: the standard error is at most 0.01 nats."""
        inside = [self._inverse(each - self._noise(20_000, rng))[1].mean(1).sum() for each in x]
        return self.log_likelihood(theta, x) - np.log(inside)

    def sample(self, n: int, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """n exact draws of θ given one x."""
        theta, inside = self._inverse(x - self._noise(20 * n, rng))
        drawn = theta[inside]
        return drawn[rng.permutation(len(drawn))[:n]]


def classifier_accuracy(p: np.ndarray, q: np.ndarray, seed: int) -> float:
    """Accuracy by five-fold cross-validation of the better of two classifiers."""
    X, y = np.concatenate([p, q]), np.repeat([0, 1], [len(p), len(q)])
    hidden = (10 * p.shape[1],) * 2
    network = MLPClassifier(hidden, max_iter=1000, early_stopping=True, random_state=seed)
    order = np.random.default_rng(seed).permutation(len(X))
    classifiers = (
        make_pipeline(StandardScaler(), network),
        HistGradientBoostingClassifier(random_state=seed),
    )
    return max(cross_val_score(c, X[order], y[order], cv=5).mean() for c in classifiers)


def measure(est: ScoreODE, task: Gaussian | TwoMoons, args: argparse.Namespace) -> dict[str, Any]:
    """KL over fresh pairs, and C2ST by observation."""
    rng = np.random.default_rng([args.seed, 1])
    theta, x = task.pairs(args.rows, rng)
    found = est.log_likelihood(theta, x)
    difference = task.log_posterior(theta, x, rng) - found.nats
    observed = task.pairs(args.observations, rng)[1]
    drawn = est.sample(args.draws, observed, random_state=args.seed)
    exact = [task.sample(args.draws, each, rng) for each in observed]
    return {
        "kl": float(difference.mean()),
        "kl_stderr": float(difference.std(ddof=1) / len(theta) ** 0.5),
        "kl_rows": len(theta),
        "unconverged": int(np.sum(~found.converged)),
        "observations": observed.tolist(),
        "c2st": [classifier_accuracy(p, drawn[:, i], args.seed) for i, p in enumerate(exact)],
        "c2st_draws": args.draws,
    }


TASKS: dict[str, tuple[Callable[[], Gaussian | TwoMoons], dict[str, Any]]] = {
    "gaussian": (lambda: Gaussian.random(5, np.random.default_rng(1)), {}),
    # Moons are thin, a hundredth of the square: the noise that is left at t = 0 has to be less.
    "moons": (TwoMoons, {"process": VE(sigma_min=0.002, sigma_max=10.0)}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--order", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5000, help="of training")
    parser.add_argument("--rows", type=int, default=2000, help="fresh pairs for the KL")
    parser.add_argument("--observations", type=int, default=5)
    parser.add_argument("--draws", type=int, default=2000, help="of both for every observation")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make, options = TASKS[args.task]
    task = make()
    theta, x = task.pairs(PAIRS, np.random.default_rng([args.seed, 0]))
    est = ScoreODE(order=args.order, steps=args.steps, random_state=args.seed, **options)
    began, processor = time.perf_counter(), time.process_time()
    est.fit(theta, x)
    result = {
        "setting": {name: value for name, value in vars(args).items() if name != "out"},
        "pairs": PAIRS,
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - processor,
        "cores": len(os.sched_getaffinity(0)),
        **measure(est, task, args),
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{args.task}: KL {result['kl']:.4f} ± {result['kl_stderr']:.4f} nats, C2ST"
        f" {', '.join(f'{accuracy:.3f}' for accuracy in result['c2st'])};"
        f" {args.steps} steps in {result['seconds']:.0f} s,"
        f" {result['processor_seconds']:.0f} s of the processor"
    )


if __name__ == "__main__":
    main()
