r"""The NLL of the ODE beside the bound of the SDE, and J_Diff, their mean difference.

By Theorem 1, KL(q_0 ‖ p_0) = KL(q_T ‖ p_T) + J_SM + J_Diff for the ODE, and for the SDE
KL(q_0 ‖ p_0^SDE) ≤ KL(q_T ‖ p_T) + J_SM, the mean of `flow.nll_bound` less the entropy of q_0. So
J_Diff, which no loss of order 1 contains, is measured without the truth:

    J_Diff = E[−log p_0^ODE] − E[bound].

Where it is above 0, the ODE loses likelihood that orders 2 and 3 can gain. Where it is below 0, the
ODE is better than the bound already, and J_SM, the error of the score, is what is left.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

_SIGNIFICANT = 2.0  # standard errors
NAMES = ("exact_nll", "sde_bound", "j_diff", "j_diff_stderr", "j_diff_rows")


class NLLs(NamedTuple):
    """The NLL of rows in nats: the ODE's, nan where it did not converge, and the SDE's bound."""

    ode: Float[np.ndarray, " n"]
    bound: Float[np.ndarray, " n"]

    @property
    def j_diff(self) -> Float[np.ndarray, " n"]:
        """The ODE's less the bound; its mean over rows is J_Diff."""
        return self.ode - self.bound


class JDiff(NamedTuple):
    """Means over rows in nats: the ODE's NLL, the bound, J_Diff with its standard error."""

    nll: float
    bound: float
    value: float
    stderr: float
    rows: int

    @classmethod
    def of(cls, nlls: NLLs, weights: np.ndarray | None = None) -> "JDiff | None":
        """The means of the rows that converged, by weight; None of fewer than two."""
        converged = np.isfinite(nlls.j_diff)
        if converged.sum() < 2:
            return None
        w = np.ones(len(nlls.ode)) if weights is None else weights
        w = w[converged] / np.sum(w[converged])
        nll, bound, value = (
            float(w @ part[converged]) for part in (nlls.ode, nlls.bound, nlls.j_diff)
        )
        # With equal weights the usual n − 1.
        spread = np.sum(w**2 * (nlls.j_diff[converged] - value) ** 2) / (1 - np.sum(w**2))
        return cls(nll, bound, value, float(np.sqrt(spread)), int(converged.sum()))

    @property
    def sign(self) -> int:
        """1 where J_Diff is above 0 by two standard errors, −1 where it is below, 0 between."""
        away = abs(self.value) > _SIGNIFICANT * self.stderr
        return int(np.sign(self.value)) if away else 0

    @property
    def summary(self) -> dict[str, float]:
        """What summary.json and `--json` hold."""
        return dict(zip(NAMES, self, strict=True))

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any]) -> "JDiff | None":
        """What `summary` wrote, if it is there."""
        there = all(name in summary for name in NAMES)
        return cls(*(summary[name] for name in NAMES)) if there else None
