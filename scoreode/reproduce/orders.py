"""One run for every order, in a folder of its own, and the table that compares them."""

from typing import Any, NamedTuple

import numpy as np

from scoreode.data import Dataset
from scoreode.evaluate.table import measure
from scoreode.model.config import Run
from scoreode.model.density import Density
from scoreode.model.fitted import Fitted
from scoreode.progress import show
from scoreode.train import RunFolder, TrainState
from scoreode.train.trainer import fit

ORDERS = (1, 2, 3)


class Reproduced(NamedTuple):
    """What summary.json holds, and the same for a terminal."""

    summary: dict[str, Any]
    text: str


def train(
    parent: RunFolder,
    name: str,
    run: Run,
    data: Dataset,
    start: Density | None = None,
    state: TrainState | None = None,
) -> Fitted:
    """Trains into parent/name, with progress shown; `start` and `state` are those of `fit`."""
    with show(name) as observe:
        path, command = parent.path / name, parent.command
        begin = {"start": start, "state": state}
        return fit(run, data, **begin, path=path, command=command, observe=observe)


def nll_and_kl(fitted: Fitted, test: np.ndarray, entropy: float) -> dict[str, Any]:
    """NLL on test rows and what remains of it above the entropy, KL(q_0 ‖ p_0), in nats."""
    *_, summary = measure(fitted, test)
    nats = summary["nats_mean"]
    nll = np.nan if nats is None else -nats  # where no row converged
    return {
        "nll": nll,
        "nll_stderr": summary["nats_stderr"],
        "kl": nll - entropy,
        "nfe_mean": summary["nfe_mean"],
        "unconverged": summary["unconverged"],
        "train_seconds": fitted.seconds,
        "nll_seconds": summary["seconds"],
    }


def table(summary: dict[str, Any]) -> str:
    """NLL and KL by order, in nats, as aligned text."""
    lines = ["order    NLL (nats)          KL to the data    training"]
    for order, row in summary["orders"].items():
        lines.append(
            f"{order:5}    {row['nll']:.4f} ± {row['nll_stderr']:.4f}     {row['kl']:.4f}"
            f"            {row['train_seconds']:.0f} s"
        )
    return "\n".join([*lines, f"best possible NLL: {summary['entropy']:.4f} (the entropy)"])
