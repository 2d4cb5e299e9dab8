"""The same rows under several models: log-densities side by side, and differences in pairs.

Rows are alike hard for all models, so a difference row by row has a far smaller standard error
than the two means have.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from scoreode.errors import InputError
from scoreode.evaluate.densities import Evaluated, difference
from scoreode.evaluate.held_out import HeldOut, Options, Sources
from scoreode.evaluate.runs import Subject, subjects
from scoreode.evaluate.text import plus_minus
from scoreode.model.fitted import Fitted
from scoreode.model.nlls import NAMES as J_DIFF

LEVEL = 0.05  # of all differences together
_KEPT = ("n", "d", "nats_mean", "nats_stderr", "probe_stderr", "bits_per_dim")
_KEPT += ("bits_per_dim_stderr", "error_mean", "nfe_mean", "unconverged", "seconds")


def alike(paths: Sequence[Path], options: Options) -> list[tuple[Subject, Fitted, HeldOut]]:
    """The runs with the held-out rows that they share, as `log_densities` takes them.

    **Raises:** `InputError` for fewer than two runs, for runs without a model, of other columns or
    on another grid, and for runs that were not all kept from the same rows.
    """
    found = subjects(paths) if paths else []
    if len(found) < 2:
        raise InputError("give two runs or more: scoreode compare RUN RUN")
    for subject in found:
        if subject.fitted is None:
            raise InputError(f"{subject.folder.path}: its training is not finished")
    first, sources = found[0], Sources(options)
    for subject in found:
        if subject.data.modelled != first.data.modelled:
            raise InputError(
                f"{subject.folder.path}: has other columns than {first.folder.path}; densities of"
                " different columns cannot be compared"
            )
        if subject.data.bin_width != first.data.bin_width:
            raise InputError(
                f"{subject.folder.path}: has another grid than {first.folder.path}; the mass of"
                " cells cannot be compared with a density, nor with that of other cells"
            )
    models = [(s, s.fitted, sources.of(s.fitted, shown=0)) for s in found if s.fitted is not None]
    for subject, _, held_out in models:
        if held_out is not models[0][2]:
            raise InputError(
                f"{subject.folder.path} and {first.folder.path} have no held-out rows in common"
                " that can be told: give some with --data"
            )
    return models


def summarise(found: Sequence[Evaluated], to: str) -> dict[str, Any]:
    """Every run beside the reference, "first" or "best", in nats and, on a grid, bits/dim.

    A difference is significant if that of a fair coin would be so large in less than `LEVEL` of
    cases, all differences taken together (Holm 1979).
    """
    means = [-np.inf if (nats := e.summary["nats_mean"]) is None else nats for e in found]
    reference = found[int(np.argmax(means)) if to == "best" else 0]
    runs = [_run(e, reference) for e in found]
    tested = [run for run in runs if run["p"] is not None]
    for run, significant in zip(tested, _holm([run["p"] for run in tested]), strict=True):
        run["significant"] = significant
    held_out = reference.held_out
    return {
        "data": held_out.source,
        "rows": len(held_out.evaluated),
        "of": held_out.total,
        "reference": reference.subject.label,
        "level": LEVEL,
        "runs": runs,
    }


def _run(evaluated: Evaluated, reference: Evaluated) -> dict[str, Any]:
    subject, fitted = evaluated.subject, evaluated.fitted
    found = None if evaluated is reference else difference(evaluated, reference)
    return {
        "run": str(subject.folder.path),
        "label": subject.label,
        "order": fitted.order,
        "steps": fitted.steps,
        "train_seconds": fitted.seconds,
        **{name: evaluated.summary[name] for name in _KEPT},
        **{name: evaluated.summary.get(name) for name in J_DIFF},
        "difference": None if found is None else float(found.value),
        "difference_stderr": None if found is None else float(found.stderr),
        "p": None if found is None else _p(float(found.value), float(found.stderr)),
        "significant": None,
    }


def _p(value: float, stderr: float) -> float:
    """Of a mean of many rows that is 0: the probability of one as far from it, or further."""
    return float(value == 0) if stderr == 0 else float(2 * stats.norm.sf(abs(value) / stderr))


def _holm(p: Sequence[float]) -> list[bool]:
    """Which are significant at `LEVEL` together."""
    order = np.argsort(p)
    passed = np.asarray(p)[order] * np.arange(len(p), 0, -1) < LEVEL
    significant = np.zeros(len(p), bool)
    significant[order] = np.logical_and.accumulate(passed)
    return significant.tolist()


def readable(summary: dict[str, Any]) -> str:
    """The comparison for a terminal."""
    grid = any(run["bits_per_dim"] is not None for run in summary["runs"])
    head = ["", "order", "steps", "seconds", "log-density, nats"]
    head += ["bits/dim"] if grid else []
    head += ["J_Diff, nats"]
    head += [f"difference from {summary['reference']}, nats", ""]
    lines = [head, *(_cells(run, summary, grid) for run in summary["runs"])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    chosen = f"{summary['rows']} of {summary['of']}, at random, of"
    which = "all of" if summary["rows"] == summary["of"] else chosen
    rows = f"rows: {which} {summary['data']}"
    left_out = [
        f"{r['label']}: {r['unconverged']} rows" for r in summary["runs"] if r["unconverged"]
    ]
    lines = [*(line.rstrip() for line in table), rows]
    return "\n".join(
        [*lines, *([f"not converged, left out: {', '.join(left_out)}"] if left_out else [])]
    )


def _cells(run: dict[str, Any], summary: dict[str, Any], grid: bool) -> list[str]:
    judged = {None: "", True: "significant", False: "not significant"}
    bits = plus_minus(run["bits_per_dim"], run["bits_per_dim_stderr"])
    reference = run["label"] == summary["reference"]
    return [
        run["label"],
        f"{run['order']}",
        f"{run['steps']}",
        f"{run['train_seconds']:.0f}",
        plus_minus(run["nats_mean"], run["nats_stderr"]),
        *([bits] if grid else []),
        plus_minus(run["j_diff"], run["j_diff_stderr"]),
        "reference" if reference else plus_minus(run["difference"], run["difference_stderr"]),
        judged[run["significant"]],
    ]
