"""How unlike its training rows a row is, as methods of the estimator."""

from abc import abstractmethod
from typing import Any

import numpy as np

from scoreode.errors import InputError
from scoreode.model.fitted import Fitted


class Novelty:
    """Whether rows are like those of training: their range, their likelihood, their neighbours."""

    fitted_: Fitted

    @abstractmethod
    def _rows(self, X: Any, C: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """The rows, and what each is conditioned on."""

    @abstractmethod
    def score_samples(self, X: Any, C: Any = None) -> np.ndarray:
        """log p of every row in nats."""

    def beyond_training(self, X: Any, C: Any = None) -> np.ndarray:
        """Which values lie beyond the range of their column in training, bool of shape (n, d + k).

        There log p rests on no row: tails beyond the data are the model's guess. Pixels of images
        share one range. The last k columns are those of C.

        **Raises:** `InputError` for a model that was saved without the ranges.
        """
        rows, c = self._rows(X, C)
        found = self.fitted_.beyond(rows, c)
        if found is None:
            raise InputError("this model was saved without the ranges of its columns; fit it again")
        return found[:, self.fitted_.data.order]

    def typicality(self, X: Any, C: Any = None, *, reference: Any = None) -> np.ndarray:
        """How far the log-density of every row is from that of typical rows, in nats, shape (n,).

            |log p(x) − mean log p|

        The typical set of p has small values (Cover and Thomas 2006, chapter 3); rows that are too
        likely are as foreign to p as those that are not likely enough, which plain log-densities of
        images miss (Nalisnick et al. 2019).

        **Arguments:** `reference`, rows whose mean is meant, best some held out from training, by
        default 512 draws from the model; of a conditional density a pair, rows and conditions.

        **Raises:** `InputError` for a conditional density without a reference.
        """
        nats = self.score_samples(X, C)
        if reference is not None:
            pair = reference if self.fitted_.data.given else (reference, None)
            return np.abs(nats - np.mean(self.score_samples(*pair)))
        if C is not None:
            raise InputError("a conditional density: give reference=(rows, conditions)")
        return np.abs(nats - self.fitted_.mean_nats)

    def anomaly_score(self, X: Any, C: Any = None, *, reference: Any = None) -> np.ndarray:
        """How unlike the training rows every row is, larger for what is more so, shape (n,).

            −log (1/m) Σ_j N(x; x_j, h² diag(s²)),   h = 0.3

        It is minus the log-density of m rows x_j with noise of 0.3 standard deviations s of every
        column, in nats, in the units of X. On sets of anomalies it finds more than −log p does (see
        docs/anomalies.md).

        **Arguments:** `reference`, the rows x_j, best those of training. By default they are those
        that the model keeps, at most 5000. Of images, and of rows with categories, conditions or
        gaps, it keeps none, and the score is −log p.

        **Raises:** `InputError` for a reference for rows with categories, conditions or gaps.

        **Cost:** the distances to the reference, or `score_samples`.
        """
        rows, c = self._rows(X, C)
        if reference is None:
            return self.fitted_.anomaly_score(rows, c)
        known = self._rows(reference, None)[0]
        if c is not None or np.isnan(rows).any() or np.isnan(known).any():
            why = "rows with categories, conditions or gaps have −log p for score; leave it out"
            raise InputError(f"reference: {why}")
        return self.fitted_.anomaly_score(rows, None, known)
