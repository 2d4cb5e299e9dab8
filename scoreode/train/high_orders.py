"""Whether orders 2 and 3 act in a run that leaves it open: J_Diff of validation rows decides.

The NLL of the ODE exceeds the bound that order 1 minimises by J_Diff (see `model.nlls`), which
orders 2 and 3 lower. Where it is below 0, they have nothing to gain, and a second of order 1 is
worth more. They act where it is above, if there are rows enough to tell, and time enough: to
measure J_Diff and to compile their steps takes half a minute of one core.
"""

from scoreode.model.config import Run
from scoreode.model.nlls import JDiff

ROWS, _LEAST_ROWS = 256, 100  # that decide; 2048 took a fifth of 150 seconds
_LEAST_STEPS, _LEAST_SECONDS = 1000, 300.0  # of a budget


def begin(run: Run) -> float:
    """The progress of a cycle from which orders above 1 act; from the first step, unless said."""
    return getattr(run.objective, "begins", 0.0)


def may_act(run: Run) -> bool:
    """Whether the budget leaves them time."""
    return (run.steps or 0) >= _LEAST_STEPS or (run.seconds or 0.0) >= _LEAST_SECONDS


def pay(found: JDiff | None) -> bool:
    """Whether they act, by J_Diff where they would begin."""
    return found is not None and found.rows >= _LEAST_ROWS and found.value > 0
