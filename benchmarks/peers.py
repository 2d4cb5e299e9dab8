"""The density estimators that scoreode is compared with: zuko's flows, scikit-learn's mixtures.

Flows are trained for a wall-clock budget, validation included, by Adam with a cosine to zero; batch
and learning rate are the better of four settings tried on kin40k. The mixture runs until it stops.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import cos, pi

import numpy as np
import torch
import zuko
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

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
