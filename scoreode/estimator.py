"""The front door for Python: a scikit-learn density estimator with an exact likelihood."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from scoreode import fitting
from scoreode.data import check_columns, from_rows, on_grid
from scoreode.errors import InputError
from scoreode.flow import LogLikelihood
from scoreode.network import MLP, DDPMpp, NCSNpp, UNet
from scoreode.process import AbstractProcess
from scoreode.recipes import PROCESSES, for_table, named
from scoreode.report.progress import shown
from scoreode.train import RunFolder

_MAX_SEED = np.iinfo(np.int32).max


class ScoreODE(DensityMixin, BaseEstimator):
    """A diffusion ODE trained by denoising score matching of order 1, 2 or 3 (Lu et al. 2022).

    None means a good default by the number of rows and columns.

    **Arguments:**

    - `order`: of the objective. Orders 2 and 3 also match the derivatives of the score, on which
      the likelihood of the ODE depends.
    - `process`: "ve", "vp", "subvp", "straight", or an `AbstractProcess`.
    - `steps` or `seconds`: how long to train.
    - `batch_size`, `learning_rate`, `network` (an `MLP`, a `UNet` …), `n_probes` an example in
      training.
    - `standardise`: "centre" all values alike, "scale" the columns, "whiten" them, or "power":
      power transforms, then whitening. The Jacobian is in the likelihood.
    - `bin_width`: of the grid on which discrete columns lie, one number or one a column, 0 for
      continuous ones; log-densities are then log-masses of cells, bounded by dequantisation.
    - `validation_fraction`: rows held out; the weights with the best validation NLL are kept.
    - `random_state`: an int, for equal results on the same machine.
    - `verbose`: show the progress of training.

    **Attributes:** `fitted_`, the trained density and what is known of its training;
    `n_features_in_`; `feature_names_in_` for a DataFrame.

    **Example:**

        est = ScoreODE(order=3, seconds=60).fit(X)
        est.score_samples(X)      # nats, in the units of X
        est.sample(100)
    """

    fitted_: fitting.Fitted
    n_features_in_: int
    feature_names_in_: np.ndarray

    def __init__(
        self,
        order: int = 3,
        process: str | AbstractProcess = "ve",
        steps: int | None = None,
        seconds: float | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        network: MLP | UNet | NCSNpp | DDPMpp | None = None,
        n_probes: int | None = None,
        standardise: str | None = None,
        bin_width: float | Sequence[float] | None = None,
        validation_fraction: float = 0.1,
        random_state: Any = 0,
        verbose: bool = False,
    ):
        self.order = order
        self.process = process
        self.steps = steps
        self.seconds = seconds
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.network = network
        self.n_probes = n_probes
        self.standardise = standardise
        self.bin_width = bin_width
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 (scikit-learn's signature)
        """Trains on the rows of X, shape (n, d) or images (n, h, w, c), which are flattened.

        **Raises:** `ValueError` for missing or infinite values, constant columns, fewer than two
        rows.
        """
        image_shape = X.shape[1:] if isinstance(X, np.ndarray) and X.ndim == 4 else None
        X = validate_data(self, _flat(X), dtype=np.float64, ensure_min_samples=2)
        unnamed = [f"x{i}" for i in range(X.shape[1])]
        names = tuple(map(str, getattr(self, "feature_names_in_", unnamed)))
        check_columns(X, names)
        seed = int(check_random_state(self.random_state).randint(_MAX_SEED))
        data = from_rows("X", X, names, seed, self.validation_fraction, image_shape=image_shape)
        if self.bin_width is not None:
            data = on_grid(data, np.atleast_1d(self.bin_width).tolist())
        process = self.process
        if isinstance(process, str):
            process = named("process", process, PROCESSES)
        run = for_table(
            *data.train.shape,
            order=self.order,
            process=process,
            validation_fraction=self.validation_fraction,
            seed=seed,
            steps=self.steps,
            seconds=self.seconds,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            network=self.network,
            n_probes=self.n_probes,
            standardise=self.standardise,
            image_shape=image_shape,
        )
        trainer = fitting.Trainer(run, data, fitting.fresh_density(run, data))
        if self.verbose:
            with shown(f"order {self.order}") as observe:
                self.fitted_ = trainer.fit(observe)
        else:
            self.fitted_ = trainer.fit()
        return self

    def log_likelihood(
        self, X: Any, stderr: float | None = None, samples: int = 1
    ) -> LogLikelihood:
        """The exact log-density of every row, with its error bar.

        **Arguments:** `stderr`, the largest standard error in nats that a row may have from its
        probes, 0 for none; `samples`, dequantised copies of every row for data on a grid.

        **Returns:** a record of arrays over rows: `nats`, in the units of X; `stderr`, of the
        divergence's probes, 0 where it is exact; `error`, of the solution in time; `nfe`;
        `converged`; `latent`.
        """
        rows = self._rows(X)
        return self.fitted_.log_likelihood(rows, samples=samples, stderr=stderr)

    def score_samples(self, X: Any) -> np.ndarray:
        """log p of every row in nats, shape (n,), in the units of X."""
        return np.asarray(self.log_likelihood(X).nats)

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002 # pyright: ignore[reportIncompatibleMethodOverride]
        """The mean log-density of the rows in nats."""
        return float(np.mean(self.score_samples(X)))

    def sample(self, n: int = 1, random_state: Any = None) -> np.ndarray:
        """n exact draws from the model, shape (n, d)."""
        check_is_fitted(self)
        if n < 1:
            raise InputError(f"n {n}: draw at least one sample")
        seed = int(check_random_state(random_state).randint(_MAX_SEED))
        return self.fitted_.sample(n, seed)

    def score_function(self, X: Any, t: float = 0.0) -> np.ndarray:
        """∇ log q_t at every row, shape (n, d), in the units of X; t = 0 is the data."""
        rows = self._rows(X)
        return self.fitted_.density.score(rows, t)

    def hessian_product(self, X: Any, V: Any, t: float = 0.0) -> np.ndarray:
        """∇² log q_t(x) v for every row x of X and v of V, shape (n, d)."""
        rows, V = self._rows(X), np.asarray(V, np.float64)
        if V.shape != rows.shape:
            raise InputError(f"V has shape {V.shape}; one vector a row of X is {rows.shape}")
        return self.fitted_.density.hessian_product(rows, V, t)

    def save(self, path: str | os.PathLike) -> None:
        """Writes config.json and model.safetensors to a new folder; nothing is pickled."""
        check_is_fitted(self)
        fitting.save(RunFolder.create(Path(path)), self.fitted_)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """The estimator that `save`, or `scoreode fit`, wrote."""
        fitted = fitting.load(Path(path))
        run, columns = fitted.run, fitted.data["columns"]
        estimator = cls(
            order=run.objective.order,
            process=run.objective.process,
            steps=run.steps,
            seconds=run.seconds,
            batch_size=run.batch_size,
            learning_rate=run.learning_rate,
            network=run.network,
            n_probes=run.objective.n_probes,
            standardise=run.standardise,
            bin_width=fitted.data["bin_width"],
            validation_fraction=run.validation_fraction,
            random_state=run.seed,
        )
        estimator.fitted_ = fitted
        estimator.n_features_in_ = len(columns)
        if columns != [f"x{i}" for i in range(len(columns))]:
            estimator.feature_names_in_ = np.asarray(columns, dtype=object)
        return estimator

    def _rows(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return np.asarray(validate_data(self, _flat(X), dtype=np.float64, reset=False))


def _flat(X: Any) -> Any:
    """Images (n, h, w, c) as rows; anything else as it is."""
    return X.reshape(len(X), -1) if isinstance(X, np.ndarray) and X.ndim > 2 else X
