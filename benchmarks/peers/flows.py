"""zuko's flows: neural splines (Durkan et al. 2019), alone and in an ensemble, and affine ones.

Batch and learning rate are the better of four settings tried on kin40k.
"""

from functools import partial

import numpy as np
import torch
import zuko
from scipy.special import logsumexp

from peers import Array, Fit
from peers.training import Recipe, evaluate, train

RECIPE = Recipe(batch=256, learning_rate=2e-3)
MEMBERS = 3


def fit(flow: zuko.flows.Flow, x_train: Array, x_val: Array, seconds: float) -> Fit:
    """Maximum likelihood for `seconds`."""

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        return flow().log_prob(x)

    def validate() -> float:
        return -float(evaluate(log_prob, x_val).mean())

    info = train(flow, lambda x: -log_prob(x).mean(), validate, x_train, seconds, RECIPE)
    flow.eval()
    return Fit(partial(evaluate, log_prob), info)


def spline(d: int) -> zuko.flows.Flow:
    """zuko's splines act on [-5, 5] and are the identity beyond."""
    return zuko.flows.NSF(d, transforms=5, hidden_features=(128, 128), bins=8)


def nsf(x_train: Array, x_val: Array, seconds: float, seed: int) -> Fit:
    torch.manual_seed(seed)
    return fit(spline(x_train.shape[1]), x_train, x_val, seconds)


def nsf_ensemble(x_train: Array, x_val: Array, seconds: float, seed: int) -> Fit:
    """The mean density of several spline flows, each trained for an equal share of the seconds."""
    share = seconds / MEMBERS
    fits = [nsf(x_train, x_val, share, MEMBERS * seed + i) for i in range(MEMBERS)]

    def log_prob(x: Array) -> Array:
        return logsumexp([fit(x) for fit in fits], axis=0) - np.log(MEMBERS)

    info = {"members": MEMBERS, "of_members": [fit.info for fit in fits]}
    return Fit(
        log_prob, info | {key: sum(f.info[key] for f in fits) for key in ("seconds", "steps")}
    )


def maf(x_train: Array, x_val: Array, seconds: float, seed: int) -> Fit:
    """Masked autoregressive flow with affine transforms."""
    torch.manual_seed(seed)
    flow = zuko.flows.MAF(x_train.shape[1], transforms=5, hidden_features=(128, 128))
    return fit(flow, x_train, x_val, seconds)
