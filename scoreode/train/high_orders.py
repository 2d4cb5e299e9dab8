"""Whether orders 2 and 3 act in a run that leaves it open: J_Diff of validation rows decides.

The NLL of the ODE exceeds the bound that order 1 minimises by J_Diff (see `model.nlls`), which
orders 2 and 3 lower. Where it is below 0, they have nothing to gain, and a second of order 1 is
worth more. They act where it is above 0 by two standard errors, if rows and time are enough to tell
and to compile their steps. Nobody asks of more than two columns: no table and no set of images had
such a J_Diff, and to measure it costs a twentieth of 300 seconds (docs/choosing.md).
"""

from scoreode.data import Dataset
from scoreode.model.config import Run
from scoreode.model.nlls import JDiff

ROWS, _LEAST_ROWS = 256, 100  # that decide; 2048 took a fifth of 150 seconds
_LEAST_STEPS, _LEAST_SECONDS = 1000, 300.0  # of a budget
_MOST_COLUMNS = 2
_SIGNIFICANT = 2.0  # standard errors


def begin(run: Run) -> float:
    """The progress of a cycle from which orders above 1 act; from the first step, unless said."""
    return getattr(run.objective, "begins", 0.0)


def may_act(run: Run, data: Dataset) -> bool:
    """Whether it is worth asking: of few columns, many rows, and with time to act."""
    time = (run.steps or 0) >= _LEAST_STEPS or (run.seconds or 0.0) >= _LEAST_SECONDS
    return time and len(data.columns) <= _MOST_COLUMNS and len(data.validation) >= _LEAST_ROWS


def pay(found: JDiff | None) -> bool:
    """Whether they act, by J_Diff where they would begin; rows that failed do not count."""
    if found is None or found.rows < _LEAST_ROWS:
        return False
    return found.value > _SIGNIFICANT * found.stderr
