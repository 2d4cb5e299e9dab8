"""Whether orders 2 and 3 act in a run that leaves it open.

The NLL of the ODE exceeds the bound that order 1 minimises by J_Diff (see `model.nlls`), which
orders 2 and 3 lower. Where it is below 0, they have nothing to gain, and a second of order 1 is
worth more. What they gained and lost in equal time (docs/choosing.md) makes the rule, for budgets
and rows that are enough to tell:

- Of one column they act: one probe gives the trace exactly.
- Of two columns they act if J_Diff of validation rows is above 0 by two standard errors.
- Of more columns they do not. No table had such a J_Diff, nor had images late in training, and to
  measure it costs a twentieth of 300 seconds.
"""

from scoreode.data import Dataset
from scoreode.model.config import Run
from scoreode.model.nlls import JDiff

ROWS, _LEAST_ROWS = 256, 100  # that decide; 2048 took a fifth of 150 seconds
_LEAST_STEPS = 1000  # of a budget
_LEAST_SECONDS = {1: 150.0, 2: 300.0}  # by columns


def begin(run: Run) -> float:
    """The progress of a cycle from which orders above 1 act; from the first step, unless said."""
    return getattr(run.objective, "begins", 0.0)


def order_of(run: Run, data: Dataset) -> int | None:
    """The order that a cycle goes on with where higher ones begin; None: J_Diff decides then."""
    d = len(data.columns)
    if d not in _LEAST_SECONDS or len(data.validation) < _LEAST_ROWS:
        return 1
    if (run.steps or 0) < _LEAST_STEPS and (run.seconds or 0.0) < _LEAST_SECONDS[d]:
        return 1
    return run.objective.order if d == 1 and data.conditions is None else None


def pay(found: JDiff | None) -> bool:
    """Whether they act, by J_Diff where they would begin; rows that failed do not count."""
    return found is not None and found.rows >= _LEAST_ROWS and found.sign > 0
