"""The headline of a report: the NLL of held-out rows, and which run is ahead."""

from collections.abc import Sequence
from typing import Any

from scoreode.evaluate import compare
from scoreode.evaluate.densities import Evaluated
from scoreode.evaluate.text import of, plus_minus


def headline(found: Sequence[Evaluated]) -> list[str]:
    """A line for every run; if all have the same rows, another on which run is ahead."""
    lines = [_mean(evaluated, found) for evaluated in found]
    same_rows = all(e.held_out is found[0].held_out for e in found)
    comparable = [e for e in found if e.summary["nats_mean"] is not None]
    if len(comparable) < 2:
        return lines
    different = "The runs have different held-out rows and cannot be compared."
    return [*lines, _ahead(comparable) if same_rows else different]


def _mean(evaluated: Evaluated, found: Sequence[Evaluated]) -> str:
    summary, whose = evaluated.summary, of(evaluated.subject, found)
    if summary["nats_mean"] is None:
        return f"NLL{whose}: no held-out row converged."
    nats = plus_minus(-summary["nats_mean"], summary["nats_stderr"])
    bits = plus_minus(summary["bits_per_dim"], summary["bits_per_dim_stderr"])
    on_grid = "" if summary["bits_per_dim"] is None else f", {bits} bits/dim"
    n, failed = summary["n"] - summary["unconverged"], summary["unconverged"]
    rows = f"{n} held-out rows" + (f"; {failed} more did not converge" if failed else "")
    return f"NLL{whose}: {nats} nats{on_grid}, mean ± standard error over {rows}."


def _ahead(found: Sequence[Evaluated]) -> str:
    """The run with the lowest NLL and its lead, as in `scoreode compare --to best`."""
    summary = compare.summarise(found, "best")
    best = summary["reference"]
    others = [run for run in summary["runs"] if run["label"] != best]
    by = "; ".join(_by(run) for run in others)
    if all(run["significant"] for run in others):
        return f"{best} is ahead: {by}."
    return f"{best} has the lowest NLL, but not significantly lower than all others: {by}."


def _by(run: dict[str, Any]) -> str:
    if run["difference"] is None:
        return f"no row in common with {run['label']}"
    verdict = "significant" if run["significant"] else "not significant"
    less = plus_minus(-run["difference"], run["difference_stderr"])
    return f"{less} nats a row less than {run['label']} ({verdict})"
