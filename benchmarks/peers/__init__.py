"""The density estimators that scoreode is compared with.

Each is a function of (training rows, validation rows, seconds, seed) that returns a `Fit`: what
gives log-densities, and how training went. Modules are imported when they are asked for, as each
needs packages of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Info = dict[str, Any]


@dataclass
class Fit:
    """A fitted density: call it on rows for their log-densities, NaN for rows that it does not
    score, as it is too slow."""

    log_prob: Callable[[Array], Array]
    info: Info = field(default_factory=dict)

    def __call__(self, x: Array) -> Array:
        return self.log_prob(x)


Estimator = Callable[[Array, Array, float, int], Fit]
METHODS = {  # where each is, and the distributions that it comes from
    "nsf": ("flows", "zuko"),
    "nsf ensemble": ("flows", "zuko"),
    "maf": ("flows", "zuko"),
    "autoregressive mixture": ("autoregressive", "nflows"),
    "flow matching": ("flow_matching", "torchcfm", "torchdiffeq"),
    "unmasking trees": ("trees", "utrees", "xgboost"),
    "vine copula": ("vines", "pyvinecopulib"),
    "mixture": ("mixtures", "scikit-learn"),
}


def estimator(method: str) -> Estimator:
    """The function of this name: "nsf ensemble" is `flows.nsf_ensemble`."""
    return getattr(import_module(f"peers.{METHODS[method][0]}"), method.replace(" ", "_"))
