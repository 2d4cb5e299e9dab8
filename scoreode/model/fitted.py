"""A trained density with all that is known of it: what front doors evaluate and draw from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import equinox as eqx
import numpy as np

from scoreode.data import Description, beyond, check_grid, check_inside, keep_inside
from scoreode.data.kinds import Category, indicators
from scoreode.data.roles import roles_of, with_roles
from scoreode.errors import InputError, listing
from scoreode.flow import (
    DEFAULT_PROBES,
    AbstractDequantisation,
    AbstractSampler,
    LogLikelihood,
    ODESampler,
    Refined,
    uniform_noise,
)
from scoreode.flow.dequantise import Nats
from scoreode.model.anomaly import NoisyDensity
from scoreode.model.categories import Law
from scoreode.model.comparison import Findings
from scoreode.model.completions import completions, sum_by_row
from scoreode.model.config import Run
from scoreode.model.density import Density
from scoreode.model.memory import check_fits
from scoreode.model.nlls import JDiff, NLLs
from scoreode.model.stack import Stack, Whole

_DRAW = 24  # bytes a value: float32, float64, and a copy while parts are joined
_MOST_COMPLETIONS = 1000  # of a row, over which a density is summed
_TYPICAL_ROWS = 512  # drawn from a model to know its mean log-density


@dataclass(frozen=True)
class Fitted:
    """A trained density, and what is known of its data and its training.

    Of a table with categories k it is that of whole rows, log P(k) + log p(x | k). Everywhere, c of
    shape (n, m + l) holds the numbers of their levels, and then what rows are conditioned on.

    Where values may be missing, x is NaN there, and the density is log P(k, pattern) + log p(x that
    is there | k, pattern), the pattern being which values are missing. What had no gaps in training
    is summed or integrated over, and where a density is `pooled`, everything that is NaN: that is
    the density of what is there, whatever the pattern.
    """

    run: Run
    density: Density
    data: Description
    steps: int
    seconds: float
    validation_nats: float | None
    """The best validation NLL met in training, in nats per row."""
    recoveries: tuple[int, ...] = ()
    """The steps that training went back to with half the learning rate, as it had diverged."""
    order: int = 1
    """The highest order that has acted on the weights."""
    j_diff: JDiff | None = None
    """J_Diff of validation rows; None where there are none, and of a run without a folder."""
    stack: Stack | None = None
    """The diffusion beside simple densities, if the run asks for them."""
    law: Law | None = None
    """P of the categories, if there are some."""
    findings: Findings | None = None
    """What validation rows tell; None of a run without a folder."""
    kept: NoisyDensity | None = None
    """The training rows that `anomaly_score` compares with; see `train.kept`."""

    @property
    def whole(self) -> Whole:
        """What is evaluated and drawn from: the stack, or the diffusion where there is none."""
        return self.density if self.stack is None else self.stack

    @property
    def summary(self) -> dict[str, Any]:
        """What summary.json holds."""
        return {
            "order": self.order,
            "steps": self.steps,
            "seconds": self.seconds,
            "validation_nats": self.validation_nats,
            "recoveries": list(self.recoveries),
            **({} if self.j_diff is None else self.j_diff.summary),
            **({} if self.stack is None else {"stack": self.stack.shares}),
            **({} if self.findings is None else {"findings": self.findings.to_json()}),
        }

    @cached_property
    def dequantisation(self) -> AbstractDequantisation | None:
        """For data on a declared grid."""
        uniform = uniform_noise(self.data.bin_width, self.data.bin_edge)
        return (
            None if uniform is None else self.run.dequantise.dequantisation(self.density, uniform)
        )

    def log_likelihood(
        self,
        x: np.ndarray,
        seed: int = 0,
        *,
        samples: int = 1,
        stderr: float | None = None,
        n_probes: int = DEFAULT_PROBES,
        tolerance: float = Refined.tolerance,
        first_row: int = 0,
        numbers: np.ndarray | None = None,
        c: np.ndarray | None = None,
        pooled: bool = False,
    ) -> LogLikelihood:
        """log p of every row in nats; of rows on a grid a bound on the log-mass of their cells.

        That of categories is exact, and part of it.

        **Arguments:** `seed` of probes and dequantisation; `samples`, of the bound; `stderr`, the
        largest that a row may have from its probes, of which there are `n_probes` to begin with;
        `tolerance`, the largest estimated error of a row's solution, in nats, or in % of more than
        100 nats; `first_row`, the number of the first of these rows in their table, or `numbers`,
        those of all, on which dequantisation depends; `c`, what each is conditioned on; `pooled`,
        see the class.

        **Raises:** `InputError` for rows off the grid or outside their bounds, and for conditions
        too many or missing.
        """
        self.check_inside(x, first_row)
        c = self.without_gaps(c) if pooled else c
        if c is not None and self.unknown(c).any():
            return self._sum_over_levels(
                x,
                first_row + np.arange(len(x)) if numbers is None else numbers,
                seed=seed,
                samples=samples,
                stderr=stderr,
                n_probes=n_probes,
                tolerance=tolerance,
                c=c,
                pooled=pooled,
            )
        coded = self.coded(c, np.isnan(x), pooled=pooled)

        def log_density(x: np.ndarray) -> LogLikelihood:
            if not self.data.columns:
                return _of_nothing(x)
            how = Refined(tolerance, stderr=stderr, n_probes=n_probes)
            return self.whole.log_likelihood(x, seed, how, coded)

        noise, data = self.dequantisation, self.data
        if noise is None:
            found = log_density(x)
        else:
            check_grid(x, data.bin_width, data.bin_edge, data.columns, "data", first_row)
            found = noise.log_mass(log_density, x, samples, seed, first_row, numbers)
        nats = found.nats + self.log_mass(c, x, pooled=pooled)
        return eqx.tree_at(lambda record: record.nats, found, nats)

    def check_inside(self, x: np.ndarray, first_row: int = 0) -> None:
        """Raises `InputError` for rows outside the declared support, by their numbers."""
        numbers = first_row + np.arange(len(x))
        check_inside(x, self.data.columns, self.data.support, "data", numbers)

    def _sum_over_levels(
        self, x: np.ndarray, numbers: np.ndarray, *, c: np.ndarray, **how: Any
    ) -> LogLikelihood:
        """log p of rows of which some categories are unknown: the sum over their levels.

        **Cost:** that of `log_likelihood` for every combination of levels.
        """
        rows, complete = self.completions(c)
        found = self.log_likelihood(x[rows], numbers=numbers[rows], c=complete, **how)
        logs = np.asarray(found.nats)
        nats = sum_by_row(logs, rows, len(x))
        share = np.exp(logs - nats[rows])

        def total(values: np.ndarray) -> np.ndarray:
            return np.bincount(rows, values, len(x))

        first = np.searchsorted(rows, np.arange(len(x)))
        return LogLikelihood(
            nats=nats,
            stderr=np.sqrt(total((share * found.stderr) ** 2)),
            nfe=total(np.asarray(found.nfe, float)).astype(int),
            converged=total(~np.asarray(found.converged)) == 0,
            latent=np.asarray(found.latent)[first],
            error=total(share * found.error),
        )

    def unknown(self, c: np.ndarray | None) -> np.ndarray:
        """Which categories in c are unknown, bool (n, m)."""
        return np.zeros((0, 0), bool) if c is None else np.isnan(c[:, : len(self.data.categories)])

    def without_gaps(self, c: np.ndarray | None) -> np.ndarray | None:
        """c in which categories without a value are unknown."""
        if c is None:
            return None
        m, most = len(self.data.categories), np.array(self._n_values)
        return np.concatenate([np.where(c[:, :m] < most, c[:, :m], np.nan), c[:, m:]], axis=1)

    def completions(self, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The number of the row of every completion, and c with all combinations of levels that
        are unknown.

        **Raises:** `InputError` for too many.
        """
        m, levels = len(self.data.categories), self._n_values
        most = np.max(np.prod(np.where(self.unknown(c), levels, 1), axis=1, dtype=float))
        if most > _MOST_COMPLETIONS:
            raise InputError(
                f"{listing(self.data.categories)}: what is missing has {most:.0f} combinations of"
                f" levels, and at most {_MOST_COMPLETIONS} are summed over; fill some in"
            )
        numbers, codes = completions(c[:, :m], levels)
        return numbers, np.concatenate([codes, c[numbers, m:]], axis=1)

    @property
    def _n_values(self) -> list[int]:
        kinds = (self.data.kinds[name] for name in self.data.categories)
        return [kind.n_values for kind in kinds if isinstance(kind, Category)]

    def log_mass(self, c: np.ndarray | None, x: np.ndarray, *, pooled: bool = False) -> np.ndarray:
        """log P of the categories of rows x, and of which values are missing, in nats, given what
        else is in c; 0 without any."""
        law = self.law.complete if pooled and self.law is not None else self.law
        if law is None:
            return np.zeros(len(x))
        m = len(self.data.categories)
        codes, g = np.empty((len(x), 0)), None
        if c is not None:
            codes, g = c[:, :m], self._coded(c[:, m:], self.data.given)
        if not pooled:
            codes = np.concatenate([codes, self.data.is_gap(x)], axis=1)
        return law.log_mass(codes, g)

    def coded(
        self, c: np.ndarray | None, hidden: np.ndarray | None = None, *, pooled: bool = False
    ) -> np.ndarray | None:
        """c as `density` takes it: with indicators in place of categories, and the roles of the
        columns if it is told them; None without any.

        **Arguments:** `hidden`, which values are not there, bool (n, d); needed for roles.
        """
        if hidden is None or not (self.data.has_roles and self.data.columns):
            return None if c is None else self._coded(c, self.data.conditions)
        gaps = () if pooled else self.data.gaps
        roles = roles_of(hidden, self.data.columns, gaps)
        return with_roles(self._beside_roles(c, len(hidden)), *roles)

    def coded_given(self, c: np.ndarray | None, given: np.ndarray) -> np.ndarray:
        """c as `density` takes it for p(x that is not given | c, x that is), `given` (n, d) being
        NaN where it is not."""
        nothing = np.zeros(given.shape, bool)
        return with_roles(self._beside_roles(c, len(given)), nothing, nothing, given)

    def _beside_roles(self, c: np.ndarray | None, n: int) -> np.ndarray:
        """The numbers of n rows that come before their roles, (n, k); k is 0 without any."""
        found = None if c is None else self._coded(c, self.data.conditions)
        return np.empty((n, 0)) if found is None else found

    def _coded(self, c: np.ndarray, names: Sequence[str]) -> np.ndarray | None:
        found = indicators(c, names, self.data.kinds)
        return found if found.shape[1] else None

    def draw(
        self,
        n: int,
        seed: int = 0,
        how: AbstractSampler = ODESampler(),
        c: np.ndarray | None = None,
        *,
        complete: bool = False,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """n rows of x, NaN where a value is missing, and of c: categories drawn from P beside what
        is given, c (n, l), or only that.

        **Arguments:** `complete`: of the law of rows without gaps.
        """
        law = self.law.complete if complete and self.law is not None else self.law
        if law is None:
            return self.sample(n, seed, how, c), c
        self._check_draw(n)
        hidden = np.zeros((n, len(self.data.columns)), bool)
        given, m = None if c is None else self._coded(c, self.data.given), len(self.data.categories)
        codes = law.sample(n, seed, given)
        if not complete:
            gaps = [self.data.columns.index(name) for name in self.data.gaps]
            hidden[:, gaps] = codes[:, m:] > 0
        if m:
            c = codes[:, :m] if c is None else np.concatenate([codes[:, :m], c], axis=1)
        return self.sample(n, seed, how, c, hidden), c

    def nlls(
        self,
        x: np.ndarray,
        seed: int = 0,
        how: Refined = Refined(),
        c: np.ndarray | None = None,
    ) -> NLLs:
        """The NLL of the ODE and the SDE's bound on rows at t_min; see `Density.nlls`.

        Rows on a grid are points in their cells, drawn by the seed.
        """
        self.check_inside(x)
        noise = self.dequantisation
        nats = self.log_mass(c, x)
        if not self.data.columns:
            return NLLs(-nats, -nats)
        x = x if noise is None else noise.dequantise(x, seed)
        found = self.density.nlls(x, seed, how, self.coded(c, np.isnan(x)))
        return NLLs(found.ode - nats, found.bound - nats)

    def beyond(self, x: np.ndarray, c: np.ndarray | None = None) -> np.ndarray | None:
        """Which values lie beyond their training range, bool (n, d + k); None if it is unknown."""
        return beyond(self.data, x, c)

    @cached_property
    def mean_nats(self) -> float:
        """The mean log-density of draws from the model, minus its entropy, in nats."""
        x, c = self.draw(_TYPICAL_ROWS)
        return float(np.mean(self.log_likelihood(x, c=c).nats))

    def anomaly_score(
        self, x: np.ndarray, c: np.ndarray | None = None, reference: np.ndarray | None = None
    ) -> np.ndarray:
        """How unlike the training rows every row is, in nats; see `model.anomaly`.

        It is −log p where there is no `reference` and the model keeps no rows.
        """
        density = self.kept if reference is None else NoisyDensity.of(reference)
        if density is None:
            return -np.asarray(self.log_likelihood(x, c=c).nats)
        return -density.nats(x)

    def bits_per_dim(self, nats: Nats) -> Nats | None:
        """Bits/dim from log-masses in nats or their mean; None for data without a declared grid."""
        noise, d = self.dequantisation, len(self.data.modelled)
        return None if noise is None else noise.bits_per_dim(nats, d)

    @property
    def pixel_range(self) -> tuple[float, float] | None:
        """The values of a black and of a white pixel; None where they are not known."""
        known = self.data.pixel_range or self.data.bin_range
        return None if known is None else (float(np.min(known[0])), float(np.max(known[1])))

    def sample(
        self,
        n: int,
        seed: int = 0,
        how: AbstractSampler = ODESampler(),
        c: np.ndarray | None = None,
        hidden: np.ndarray | None = None,
    ) -> np.ndarray:
        """n rows, shape (n, d), by default of the ODE's density.

        Discrete columns are on their grid, between the least and the greatest value of training.

        **Arguments:** `c`, what each is conditioned on, categories first; `hidden`, which values
        are missing, bool (n, d) (None: none); they are NaN.
        """
        self._check_draw(n)
        d = len(self.data.columns)
        if not d:
            return np.empty((n, 0))
        hidden = np.zeros((n, d), bool) if hidden is None else hidden
        x = self.as_data(self.whole.sample(n, d, seed, how, self.coded(c, hidden)))
        return np.where(hidden, np.nan, x) if hidden.any() else x

    def _check_draw(self, n: int) -> None:
        """Raises `InputError` for more rows than memory has."""
        size = _DRAW * n * (len(self.data.columns) + 1)
        check_fits(size, f"a draw of {n} rows", "draw fewer, with one seed after another")

    def as_data(self, x: np.ndarray) -> np.ndarray:
        """Draws x in their support, with discrete columns on their grid within the range of
        training."""
        x = keep_inside(x, self.data.columns, self.data.support)
        noise = self.dequantisation
        if noise is None:
            return x
        x, (low, high) = noise.quantise(x), self.data.bin_range or (-np.inf, np.inf)
        return np.where(np.asarray(self.data.bin_width) > 0, np.clip(x, low, high), x)


def _of_nothing(x: np.ndarray) -> LogLikelihood:
    """log p of rows without numbers, (n, 0)."""
    zero = np.zeros(len(x))
    counted, converged = zero.astype(int), np.ones(len(x), bool)
    return LogLikelihood(zero, zero, counted, converged, latent=x, error=zero)
