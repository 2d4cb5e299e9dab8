"""Warm restarts: how training spends seconds that are more than the rows need.

A learning rate that falls over a long time stays high for long, and meanwhile the network learns
the rows by heart. So a budget in seconds is spent in cycles (Loshchilov and Hutter 2017): in each
the rate rises and falls once. The first has at most `Run.cycle` steps; every other one has twice as
many as the one before, and starts from its weights. Training ends when the seconds are over, or
when a cycle ends with an exact validation NLL that is no lower than before. The best end is kept.
"""

from dataclasses import dataclass

from scoreode.model.config import Run
from scoreode.train.loop import Budget

_WORTH = 0.5  # of the last cycle's seconds: in less time another one gains nothing


@dataclass(frozen=True)
class Cycle:
    """A cycle that began after so many steps and seconds, and has at most `steps` (None: all)."""

    steps: int | None = None
    first_step: int = 0
    begun: float = 0.0

    def budget(self, run: Run) -> Budget:
        """Of this cycle: its steps, or what is left of the run's seconds."""
        if run.seconds is None:
            return Budget(run.steps)
        return Budget(self.steps, run.seconds - self.begun, self.first_step, self.begun)

    def following(self, run: Run, step: int, elapsed: float) -> "Cycle | None":
        """The next one; None if too little time is left."""
        if run.seconds is None or self.steps is None:
            return None
        if run.seconds - elapsed < _WORTH * (elapsed - self.begun):
            return None
        return Cycle(2 * self.steps, step, elapsed)
