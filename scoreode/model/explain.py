"""A fit in words, on one screen: rows, columns, what was chosen, how good it is, what is odd."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from scoreode.data import Dataset, Description, outliers, ties
from scoreode.data.domains import Circle, Interval
from scoreode.data.kinds import Category, Date
from scoreode.errors import listing
from scoreode.model.comparison import ROWS, Findings, Gain, comparable, simple_nats
from scoreode.model.fitted import Fitted

_WIDTH, _INDENT = 79, 16
_MOST, _LONG = 5, 125  # remarks, and characters of each
_FEW = 100  # validation rows
_LARGE = 100.0  # nats: an absurd value decides the mean, and digits tell nothing
_SIGNIFICANT = 2.0  # standard errors
_TRANSFORMED = {
    "centre": "all values shifted and scaled alike",
    "scale": "every column scaled to variance 1",
    "whiten": "columns scaled and decorrelated",
    "power": "long tails bent, then columns scaled and decorrelated",
}
_BY_COLUMN = {"power": "long tails bent, then scaled, column by column"}  # where some have gaps
_PARTS = {
    "diffusion": "the diffusion",
    "tail": "a heavy tail",
    "mixture": "a Gaussian mixture",
    "kernels": "kernels",
}
Line = tuple[str, str]


def examine(fitted: Fitted, data: Dataset, notes: Sequence[str] | None = None) -> Findings:
    """What the fitted rows tell of a fit; tables of numbers are compared with simple densities.

    **Arguments:** `notes`, on values that repeat or are absurd (None: they are looked for).

    **Cost:** seconds: log-densities of at most 2000 validation rows, and fits to 5000 others.
    """
    n = 0 if data.sampler is not None else len(data.validation)
    if notes is None:
        notes = *ties.find(data).messages(ties.in_command), *outliers.of_data(data)
    found = Findings(n, notes=tuple(notes))
    if not comparable(data):
        return found
    x = np.asarray(data.validation[:ROWS], np.float64)
    beyond, nats = fitted.beyond(x), np.asarray(fitted.log_likelihood(x).nats)
    there = np.isfinite(nats)
    if there.sum() < 2:
        return found
    weights = data.validation_weights
    w = None if weights is None else weights[: len(x)][there]
    others = simple_nats(data, x[there])
    return replace(
        found,
        beyond=0 if beyond is None else int(beyond.any(1).sum()),
        compared=int(there.sum()),
        nats=Gain.of(nats[there], w),
        over={name: Gain.of(nats[there] - other, w) for name, other in others.items()},
    )


def explain(fitted: Fitted) -> str:
    """The fit in words, at most 79 columns wide; what its `findings` hold is part of it."""
    parts = _columns(fitted), _choices(fitted), _compared(fitted.findings), _remarks(fitted)
    return "\n".join(_wrap(*line) for part in parts for line in part)


def _wrap(label: str, text: str) -> str:
    indent = " " * _INDENT
    first = label.ljust(_INDENT) if len(label) < _INDENT else f"{label}  "
    return textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=indent)


def _columns(fitted: Fitted) -> Iterator[Line]:
    """How many rows there were, and the columns by kind."""
    data, found = fitted.data, fitted.findings
    held_out = f", {found.validation_rows} to validate" if found else ""
    yield "rows", f"{data.n_train} to train{held_out}"
    if data.image_shape is not None:
        yield "images", " × ".join(map(str, data.image_shape))
        return
    counts = _counts(data)
    dates = [name for name in data.columns if isinstance(data.kinds.get(name), Date)]
    numbers = [name for name in data.columns if name not in (*counts, *dates)]
    levels = {n: k for n in data.categories if isinstance(k := data.kinds.get(n), Category)}
    of_each = [f"{name} ({kind.n_values} levels)" for name, kind in levels.items()]
    kinds = {"numbers": numbers, "counts": counts, "dates": dates, "categories": of_each}
    declared = {
        what: [f"{name} ({domain})" for name, domain in data.support.items() if type(domain) is of]
        for what, of in (("bounded", Interval), ("angles", Circle))
    }
    kinds |= declared | {"given": list(data.given), "with gaps": list(data.gaps_of_all)}
    for kind, names in kinds.items():
        if names:
            yield kind, listing(names)


def _counts(data: Description) -> list[str]:
    """The columns on a declared grid."""
    widths = np.broadcast_to(0.0 if data.bin_width is None else data.bin_width, len(data.columns))
    return [name for name, width in zip(data.columns, widths, strict=True) if width]


def _choices(fitted: Fitted) -> Iterator[Line]:
    """What was transformed, and what validation chose."""
    run = fitted.run
    if fitted.law is not None:
        yield "masses by", fitted.law.says
    if not fitted.data.columns:
        return
    transformed = _TRANSFORMED | (_BY_COLUMN if run.roles else {})
    yield "coordinates", transformed[run.standardise]
    noise = f", with noise of {run.smoothing:.2g} on standardised rows" if run.smoothing else ""
    yield "training", f"{fitted.steps} steps in {fitted.seconds:.0f} s{noise}; {_order(fitted)}"
    if fitted.stack is not None:
        shares = sorted(fitted.stack.shares.items(), key=lambda share: -share[1])
        k = len(fitted.stack.densities)
        several = {"diffusion": f"{k} diffusions"} if k > 1 else {}
        names = _PARTS | several
        yield "density", ", ".join(f"{100 * w:.2g} % {names[name]}" for name, w in shares)


def _order(fitted: Fitted) -> str:
    acted = "order 1" if fitted.order == 1 else f"orders 1 to {fitted.order}"
    if fitted.j_diff is None:
        return acted
    means = {
        1: "orders 2 and 3 can still lower the NLL",
        0: "nothing that orders 2 and 3 can still lower is seen",
        -1: "more of order 1 helps, orders 2 and 3 do not",
    }[fitted.j_diff.sign]
    value, stderr = fitted.j_diff.value, fitted.j_diff.stderr
    return f"{acted}, J_Diff {value:+.2g} ± {stderr:.1g} nats: {means}"


def _compared(found: Findings | None) -> Iterator[Line]:
    """The mean log-density, and what it is above that of simple densities."""
    if found is None or found.nats is None or found.over is None:
        return
    yield "log-density", f"{_number(found.nats)} nats a row, mean ± standard error, which is"
    for name, gain in found.over.items():
        above = "above" if gain.nats >= 0 else "below"
        yield "", f"{_number(gain._replace(nats=abs(gain.nats)))} {above} that of {name}"


def _number(gain: Gain) -> str:
    form = ".3f" if gain.stderr < _LARGE else ".2g"
    return f"{gain.nats:{form}} ± {gain.stderr:{form}}"


def _remarks(fitted: Fitted) -> Iterator[Line]:
    """What the user should look at."""
    remarks = list(_odd(fitted))
    shown = remarks[:_MOST]
    for i, remark in enumerate(shown):
        yield "" if i else "look at", f"- {textwrap.shorten(remark, _LONG, placeholder=' …')}"
    if len(remarks) > _MOST:
        yield "", f"- {len(remarks) - _MOST} more in summary.json"


def _odd(fitted: Fitted) -> Iterator[str]:
    found = fitted.findings
    if fitted.recoveries:
        yield f"training diverged, and went back to step {listing(fitted.recoveries)}"
    if found is None:
        return
    yield from (
        f"{name}: {_worse(gain)}" for name, gain in (found.over or {}).items() if _bad(gain)
    )
    if found.validation_rows < _FEW:
        rows = found.validation_rows or "no"
        yield f"{rows} validation rows: what they choose, and these figures, are uncertain"
    if found.beyond:
        yield f"{found.beyond} of {found.compared} validation rows lie beyond the training range"
    yield from found.notes


def _bad(gain: Gain) -> bool:
    return gain.nats < -_SIGNIFICANT * gain.stderr


def _worse(gain: Gain) -> str:
    return f"better than this fit by {-gain.nats:.2g} nats a row; train longer"
