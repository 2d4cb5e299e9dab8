"""What a reader looks for first: how likely held-out rows are, and which run is ahead."""

from collections.abc import Sequence
from typing import Any

from scoreode.evaluate import compare
from scoreode.evaluate.densities import Evaluated
from scoreode.evaluate.text import of, plus_minus


def headline(found: Sequence[Evaluated]) -> list[str]:
    """A line on every run, and one on who is ahead where they have the same rows."""
    lines = [_mean(evaluated, found) for evaluated in found]
    together = all(e.held_out is found[0].held_out for e in found)
    known = [e for e in found if e.summary["nats_mean"] is not None]
    if len(known) < 2:
        return lines
    return [*lines, _ahead(known) if together else "The runs have different rows: no comparison."]


def _mean(evaluated: Evaluated, found: Sequence[Evaluated]) -> str:
    summary, whose = evaluated.summary, of(evaluated.subject, found)
    if summary["nats_mean"] is None:
        return f"NLL{whose}: no held-out row converged."
    nats = plus_minus(-summary["nats_mean"], summary["nats_stderr"])
    bits = plus_minus(summary["bits_per_dim"], summary["bits_per_dim_stderr"])
    on_grid = "" if summary["bits_per_dim"] is None else f", {bits} bits/dim"
    n, left_out = summary["n"] - summary["unconverged"], summary["unconverged"]
    rows = f"{n} held-out rows" + (f"; {left_out} more did not converge" if left_out else "")
    return f"NLL{whose}: {nats} nats{on_grid}, mean ± standard error over {rows}."


def _ahead(found: Sequence[Evaluated]) -> str:
    """Who has the least NLL, and by how much, as `scoreode compare --to best` tells it."""
    summary = compare.summarised(found, "best")
    best = summary["reference"]
    others = [run for run in summary["runs"] if run["label"] != best]
    by = "; ".join(_by(run) for run in others)
    if all(run["significant"] for run in others):
        return f"{best} is ahead: {by}."
    return f"{best} has the least NLL, but is not ahead of all others for certain: {by}."


def _by(run: dict[str, Any]) -> str:
    if run["difference"] is None:
        return f"no row in common with {run['label']}"
    judged = "significant" if run["significant"] else "not significant"
    less = plus_minus(-run["difference"], run["difference_stderr"])
    return f"{less} nats a row less than {run['label']} ({judged})"
