"""Posteriors that `simulators.py` compares.

`sample(n, x)` has the shape (n, rows of x, parameters), `log_density(theta, x)` is of every row, or
None, and `told` is what to record of the training.
"""

import tempfile
import time
import warnings
from typing import Any

import numpy as np
from simulator_tasks import Box, Rows, Task

from scoreode import ScoreODE
from scoreode.process import VE


class Scoreode:
    """Less noise at t = 0 than by default, as docs/conditional.md advises for narrow posteriors."""

    def __init__(self, task: Task, theta: Rows, x: Rows, seconds: float, seed: int):
        process = VE(sigma_min=0.002, sigma_max=10.0)
        est = ScoreODE(
            seconds=seconds, process=process, bounds=task.prior.bounds, random_state=seed
        )
        self._est, self._seed = est.fit(theta, x), seed
        self.told = {"steps": est.fitted_.summary["steps"]}

    def sample(self, n: int, x: Rows) -> np.ndarray:
        drawn = self._est.sample(n, x, random_state=self._seed)  # (n, parameters) for one x
        return drawn.reshape(n, len(x), -1)

    def log_density(self, theta: Rows, x: Rows) -> np.ndarray:
        return self._est.score_samples(theta, x)


class Sbi:
    """sbi's NPE with zuko's neural spline flow, or FMPE or NPSE with their default networks.

    An epoch of that flow takes half the time of sbi's own, with no higher loss. sbi's training
    has no limit in seconds: the loader of batches ends it, and the best weights so far are kept, as
    at the end of its epochs. Draws outside the prior are rejected.
    """

    def __init__(self, method: str, task: Task, theta: Rows, x: Rows, seconds: float, seed: int):
        import torch
        from sbi import inference
        from sbi.utils import BoxUniform
        from sbi.utils.tracking import TensorBoardTracker
        from torch.utils.tensorboard.writer import SummaryWriter

        torch.manual_seed(seed)
        self._torch, prior = torch, task.prior
        if isinstance(prior, Box):
            ends = torch.full((prior.d,), prior.half)
            of_torch: Any = BoxUniform(-ends, ends)
        else:
            mean, covariance = self._tensor(prior.mean), torch.diag(self._tensor(prior.sd) ** 2)
            of_torch = torch.distributions.MultivariateNormal(mean, covariance)
        options = {"density_estimator": "zuko_nsf"} if method == "NPE" else {}
        with tempfile.TemporaryDirectory() as folder:
            tracker = TensorBoardTracker(SummaryWriter(folder))
            trainer = getattr(inference, method)(
                of_torch, tracker=tracker, show_progress_bars=False, **options
            )
            trainer.append_simulations(self._tensor(theta), self._tensor(x))
            self._train(trainer, seconds)
        self._posterior = trainer.build_posterior()
        self.told = {"epochs": trainer.epoch}
        if method != "NPE":
            self.log_density = None  # one x at a time: too slow for these many

    def _train(self, trainer: Any, seconds: float) -> None:
        end = time.perf_counter() + seconds

        def collate(rows: Any) -> Any:
            if time.perf_counter() > end:
                raise TimeoutError
            return self._torch.utils.data.default_collate(rows)

        try:
            trainer.train(dataloader_kwargs={"collate_fn": collate})
        except TimeoutError:
            if trainer.epoch < 2:
                raise SystemExit(f"{seconds:.0f} seconds: not two epochs; give more") from None
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Maximum number of epochs")
                # No further epoch: the best weights are taken.
                trainer.train(resume_training=True, max_num_epochs=trainer.epoch - 1)

    def _tensor(self, a: Any) -> Any:
        return self._torch.as_tensor(np.asarray(a), dtype=self._torch.float32)

    def sample(self, n: int, x: Rows) -> np.ndarray:
        drawn = self._posterior.sample_batched((n,), self._tensor(x), show_progress_bars=False)
        return drawn.numpy().astype(np.float64)

    def log_density(self, theta: Rows, x: Rows) -> np.ndarray:
        # Not divided by the mass within the prior, which is slow; draws outside are rejected.
        found = self._posterior.log_prob_batched(
            self._tensor(theta), self._tensor(x), norm_posterior=False
        )
        return np.ravel(found.numpy()).astype(np.float64)
