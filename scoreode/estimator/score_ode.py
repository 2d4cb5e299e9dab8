"""The front door for Python: a scikit-learn density estimator with an exact likelihood."""

import os
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from scoreode.data import Dataset, Description, Discrete
from scoreode.data.columns import default_names
from scoreode.data.reading import Reading
from scoreode.errors import (
    InputError,
    check_counts,
    check_not_negative,
    check_positive,
    whole,
)
from scoreode.estimator import conditions, inputs
from scoreode.estimator.derivatives import Derivatives
from scoreode.estimator.gaps import Marginal, check_for_imputation, completed
from scoreode.estimator.novelty import Novelty
from scoreode.estimator.plan import dataset_of, parameters_of, run_of, with_grid, with_support
from scoreode.flow import EXACT_UP_TO, LogLikelihood, Refined
from scoreode.model.build import check_continuous
from scoreode.model.config import AUTO
from scoreode.model.explain import examine, explain
from scoreode.model.fitted import Fitted
from scoreode.network import Specification
from scoreode.process import AbstractProcess
from scoreode.progress import note, show
from scoreode.train import RunFolder, saved
from scoreode.train.observers import Observer, combine_observers, no_observer, recovery
from scoreode.train.trainer import fit


class ScoreODE(Derivatives, Novelty, DensityMixin, BaseEstimator):
    """A diffusion ODE trained by denoising score matching of order 1, 2 or 3 (Lu et al. 2022).

    None means a good default by the number of rows and columns.

    **Arguments:**

    - `order`: of the objective. Orders 2 and 3 also match the derivatives of the score, on which
      the likelihood of the ODE depends. With "auto" they do so for one column, and for two if
      validation rows say that they can gain; `fitted_.order` says whether.
    - `process`: "ve", "vp", "subvp", "straight", or an `AbstractProcess`.
    - `steps` or `seconds`: how long to train.
    - `batch_size`, `learning_rate`, `network` (an `MLP`, a `UNet` …), `n_probes` an example,
      `n_reference` rows over which targets are averaged, `weight_decay`,
      `smoothing` by noise on standardised rows: of training.
    - `stack`: beside the diffusion stands a heavy tail, of fewer than 5000 rows also a Gaussian
      mixture and kernels, and of more with categories or gaps the mixture, with the weights that
      explain validation rows best; not where `C` is given.
    - `standardise`: "centre" all values alike, "scale" the columns, "whiten" them, or "power":
      long tails are bent, then all is whitened. By default rows left out decide between the last
      three. The Jacobian is in the likelihood.
    - `categories`: columns of numbers, by index or name, that are categories. Those of text,
      booleans and of type category in a DataFrame always are: log P(k) of the categories k is
      exact, and part of every log-density, log P(k) + log p(x | k). Dates are numbers of days or
      seconds since 1970-01-01.
    - `discrete`: columns of counts or codes, by index or name, or "auto" for those of few values
      on a grid (see `data.grids`). Log-densities are then log P of the discrete columns plus log p
      of the others given them, bounded by dequantisation, and samples lie on the grid.
    - `bin_width`: the same, with the widths of the grids given: one number, or one a column, 0 for
      continuous ones.
    - `bounds`: of columns by name or index, as `{"share": (0, 1), "price": (0, None)}`, or a list
      of one pair a column. The density is 0 outside, and samples lie inside.
    - `period`: of columns of angles, as `{"wind": 360}` in the same ways: x and x + 360 are the
      same point.
    - `dequantise`: with "uniform" noise, "variational" (learnt with the model), or
      "truncated-normal" (none in training; for grids in every column).
    - `subsets`: learn the density of every set of columns, for rows that lack any values and for
      `marginal`; at some cost in accuracy.
    - `validation_fraction`: rows held out; the weights with the best validation NLL are kept.
    - `patience`: stop when so many validations pass without a better one (None: never). There are
      20, and 200 for fewer than 5000 rows, but at most one in 100 steps.
    - `warm_start`: `fit` goes on from the fitted weights, with rows of the same columns.
    - `random_state`: an int, for equal results on the same machine; or a NumPy Generator or
      RandomState, from which the seed is drawn.
    - `verbose`: show the progress of training, and at its end what `explain` says.

    **Attributes:** `fitted_`, the trained density and what is known of its training;
    `n_features_in_`; `feature_names_in_` for a DataFrame.

    **Example:**

        est = ScoreODE(seconds=60).fit(X)
        est.score_samples(X)      # nats, in the units of X
        est.sample(100)

    **Conditional densities:** `fit(X, C)`, with C of shape (n, k), models p(x | c), and then every
    method takes C: as many rows as X has, or one for all. A y of one dimension is a target, which a
    density ignores, as in scikit-learn; a condition of one dimension is given by name, `C=c`.
    """

    fitted_: Fitted
    n_features_in_: int
    feature_names_in_: np.ndarray
    _library: str

    def __init__(
        self,
        order: int | str = AUTO,
        process: str | AbstractProcess = "ve",
        steps: int | None = None,
        seconds: float | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        network: Specification | None = None,
        n_probes: int | None = None,
        n_reference: int | None = None,
        weight_decay: float | None = None,
        smoothing: float | None = None,
        stack: bool = True,
        standardise: str | None = None,
        categories: Sequence[str | int | bool] | None = None,
        discrete: Discrete | None = None,
        bin_width: float | Sequence[float] | None = None,
        bounds: Any = None,
        period: Any = None,
        dequantise: str = "uniform",
        subsets: bool = False,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        warm_start: bool = False,
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
        self.n_reference = n_reference
        self.weight_decay = weight_decay
        self.smoothing = smoothing
        self.stack = stack
        self.standardise = standardise
        self.categories = categories
        self.discrete = discrete
        self.bin_width = bin_width
        self.bounds = bounds
        self.period = period
        self.dequantise = dequantise
        self.subsets = subsets
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        C: Any = None,
        sample_weight: Any = None,
        observe: Observer = no_observer,
    ) -> Self:
        """Trains on the rows of X, a DataFrame, an array (n, d), or images (n, h, w, c), which are
        flattened. Values may be missing in tables: NaN, None, NaT, null.

        **Arguments:** `y` of shape (n, k), or `C`: what each row is conditioned on;
        `sample_weight`, how often every row counts: the law that is learnt has the rows in these
        proportions; `observe`, called with a report of training after every chunk of steps, and
        with the validation NLL in nats when there is a new one.

        **Raises:** `ValueError` for infinite values, columns without a value, missing values in
        images and in conditions, text in arrays, categories that are constant or of more levels
        than half of the rows, constant columns, values outside or at their bounds, angles that fill
        more than one period, fewer than two rows of positive weight, conditions for another number
        of rows, and a y of real numbers in one dimension, which may be meant as a condition; with
        `warm_start`, for other columns than those fitted. `FailureError` when the loss is no longer
        finite, at an eighth of the learning rate, too.

        **Warns:** `ConvergenceWarning`, once, where training went back to its last finite state
        and on with half the learning rate; `fitted_.recoveries` has the steps.
        `TiesWarning` of values that repeat in columns that are not declared discrete.
        `OutlierWarning` of values far from all others.
        """
        image_shape = X.shape[1:] if isinstance(X, np.ndarray) and X.ndim == 4 else None
        before = getattr(self, "fitted_", None) if self.warm_start else None
        if before is None:
            reading = inputs.reading_of(self, X)
        else:
            reading = Reading(before.data.kinds, gaps=before.data.gaps_of_all)
        rows, kinds = inputs.rows_of(self, X, reading, fitting=before is None)
        weights = inputs.weights_of(sample_weight, len(rows))
        seed = inputs.seed_of(self.random_state)
        c = conditions.from_arguments(y, C)
        data = dataset_of(self, rows, c, weights, seed, kinds, before)
        data = replace(with_grid(self, data, before), image_shape=image_shape)
        data = with_support(self, data, weights, before)
        run = run_of(self, data, seed, before)
        check_continuous(data)  # what is refused comes before what is only noted
        problems = list(inputs.problems(self, rows, data))
        for problem in problems:
            warnings.warn(problem, stacklevel=2)
        with show(f"order {self.order}") if self.verbose else nullcontext(no_observer) as bar:
            start = None if before is None else before.density
            self.fitted_ = fit(run, data, start=start, observe=combine_observers(bar, observe))
        self._library = inputs.library_of(X)
        if self.verbose:
            note(self._explanation(data, problems))
        if self.fitted_.recoveries:
            warnings.warn(recovery(self.fitted_.recoveries), ConvergenceWarning, stacklevel=2)
        return self

    def log_likelihood(
        self,
        X: Any,
        C: Any = None,
        *,
        stderr: float | None = None,
        samples: int | None = None,
        tolerance: float = Refined.tolerance,
    ) -> LogLikelihood:
        """The exact log-density of every row, with its error bar.

        **Arguments:** `C`, of shape (n, k), or one row for all; `stderr`, the largest standard
        error in nats that a row may have from its probes, 0 for none; `samples`, dequantised copies
        of every row with discrete columns, by default 16, or 1 above 32 columns; `tolerance`,
        the largest estimated error of a row's solution, in nats, or in % of more than 100 nats.

        **Returns:** a record of arrays over rows: `nats`, in the units of X; `stderr`, of the
        divergence's probes, 0 where it is exact; `error`, of the solution in time; `nfe`;
        `converged`; `latent`. Errors say nothing of rows that `beyond_training` finds.
        """
        rows, c = self._rows(X, C)
        check_counts(samples=samples)
        check_positive(tolerance=tolerance)
        check_not_negative(stderr=stderr)
        default = inputs.SAMPLES if rows.shape[1] <= EXACT_UP_TO else 1
        how = {"samples": samples or default, "stderr": stderr, "tolerance": tolerance}
        return self.fitted_.log_likelihood(rows, **how, c=c)

    def score_samples(self, X: Any, C: Any = None) -> np.ndarray:
        """log p(x), or log p(x | c), of every row in nats, shape (n,), in the units of X."""
        return np.asarray(self.log_likelihood(X, C).nats)

    def score(self, X: Any, y: Any = None, *, C: Any = None) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The mean log-density of the rows in nats. **Arguments:** `y` or `C`, as for `fit`."""
        return float(np.mean(self.score_samples(X, conditions.from_arguments(y, C))))

    def sample(
        self, n: int = 1, C: Any = None, *, random_state: Any = None, output: str | None = None
    ) -> Any:
        """n exact draws from the model, shape (n, d); of a conditional one n draws given every c.

        **Arguments:** `C`, one condition, of shape (k,) or (1, k), or several, (m, k);
        `random_state`, an int, or a NumPy Generator or RandomState to draw a seed from; `output`,
        "numpy", "pandas" or "polars", by default an array of numbers, or where columns are none the
        kind of DataFrame that was fitted. DataFrames have the fitted names, categories and dates as
        they came, and columns of integers where the data lie on a grid of whole numbers. Where
        training lacked values draws do, too, in the same patterns; `impute` fills them in.

        **Returns:** (n, d) without or with one condition, and an array (n, m, d) for several.
        """
        check_is_fitted(self)
        fitted, data = self.fitted_, self.fitted_.data
        n, seed = whole("n", n), inputs.seed_of(random_state)
        given = conditions.for_density(C, data.given, data.kinds)
        several = 1 if given is None else len(given)
        usual = "numpy" if several > 1 or inputs.are_numbers(data) else self._library
        output = inputs.check_output(usual if output is None else output)
        if several > 1 and output != "numpy":
            raise InputError(f"output {output!r}: draw given one condition at a time")
        c = None if given is None else np.tile(given, (n, 1))
        drawn, c = fitted.draw(n * several, seed, c=c)
        rows = inputs.as_output(fitted, drawn, c, output)
        return rows if several == 1 else rows.reshape(n, several, -1)

    def impute(self, X: Any, C: Any = None, *, n: int = 1, random_state: Any = None) -> Any:
        """X with draws in the place of what is missing, given what is there in the same row.

        What is missing is taken to be like what is there, given the rest of its row (missing at
        random).

        **Arguments:** `C`, as for `log_likelihood`; `n`, how many draws; `random_state`, as for
        `sample`.

        **Returns:** a table of the kind of X, an array or a DataFrame; for n > 1 a list of n.

        **Raises:** `InputError` if no value was missing in training, without `subsets`.

        **Cost** of a row that lacks values: n draws, and if some are categories, a log-density for
        every combination of their levels.
        """
        rows, c = self._rows(X, C)
        check_for_imputation(self.fitted_.data)
        tables = completed(self.fitted_, X, rows, c, whole("n", n), inputs.seed_of(random_state))
        return tables[0] if n == 1 else tables

    def marginal(self, columns: Sequence[str | int]) -> Marginal:
        """The density of these columns, with `score_samples`, `log_likelihood` and `sample`.

        **Arguments:** `columns`, by name or index.

        **Raises:** `InputError` without `subsets`.
        """
        check_is_fitted(self)
        return Marginal(self.fitted_, columns, self._library)

    def explain(self, X: Any = None, y: Any = None, *, C: Any = None) -> str:
        """The fit in words, on one screen: columns, what was chosen, how good it is, what is odd.

        **Arguments:** `X` and `y` or `C`, the rows that were fitted, without weights. With them it
        also says how the mean log-density of validation rows compares with that of a Gaussian, a
        Gaussian mixture and a kernel density estimate, and what to look at in the rows.

        **Raises:** `InputError` for other rows than those fitted.

        **Cost:** with rows seconds: log-densities of at most 2000, and fits to at most 5000 others.
        """
        check_is_fitted(self)
        fitted = self.fitted_
        if X is None:
            return explain(fitted)
        rows, kinds = inputs.rows_of(self, X, fitted.data.reading, fitting=False)
        c = conditions.from_arguments(y, C)
        data = dataset_of(self, rows, c, None, fitted.run.seed, kinds, fitted)
        data = with_grid(self, data, fitted)
        if Description.of(data).fingerprint != fitted.data.fingerprint:
            raise InputError("X: other rows than those fitted; give these, or none")
        return self._explanation(data, inputs.problems(self, rows, data))

    def _explanation(self, data: Dataset, problems: Iterable[Warning]) -> str:
        found = examine(self.fitted_, data, [str(problem) for problem in problems])
        return explain(replace(self.fitted_, findings=found))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes config.json and model.safetensors to a new folder; nothing is pickled."""
        check_is_fitted(self)
        saved.save(RunFolder.create(Path(path)), self.fitted_)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The estimator that `save`, or `scoreode fit`, wrote.

        **Raises:** `ValueError` for what is no model, or a damaged one.
        """
        return cls._of(saved.load(Path(path)))

    @classmethod
    def from_run(cls, path: str | os.PathLike[str]) -> Self:
        """The model in the folder of `scoreode fit`: the final one, or, while the run is under way
        or after it was stopped, the best up to its newest checkpoint."""
        path = Path(path)
        whole = (path / "model.safetensors").exists()
        return cls._of((saved.load if whole else saved.at_checkpoint)(path))

    @classmethod
    def _of(cls, fitted: Fitted) -> Self:
        """The estimator whose parameters would fit this model."""
        estimator, columns = cls(**parameters_of(fitted)), fitted.data.modelled
        estimator.fitted_ = fitted
        estimator._library = inputs.library_of(None)
        estimator.n_features_in_ = len(columns)
        if columns != default_names(len(columns)):
            estimator.feature_names_in_ = np.asarray(columns, dtype=object)
        return estimator

    def _rows(self, X: Any, C: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """The rows, and what each is conditioned on."""
        check_is_fitted(self)
        data = self.fitted_.data
        rows, _ = inputs.rows_of(self, X, data.reading, fitting=False)
        given = conditions.for_density(C, data.given, data.kinds)
        return data.apart(rows, conditions.repeat(given, len(rows)))
