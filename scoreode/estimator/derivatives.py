"""Derivatives of the log-density, as methods of the estimator."""

from abc import abstractmethod
from typing import Any

import numpy as np

from scoreode.errors import InputError, check_positive
from scoreode.model.fitted import Fitted


class Derivatives:
    """Gradient, Hessian and Laplacian of log p with respect to the numbers of a row."""

    fitted_: Fitted

    @abstractmethod
    def _rows(self, X: Any, C: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """The rows, and what each is conditioned on."""

    def score_function(self, X: Any, t: float = 0.0, *, C: Any = None) -> np.ndarray:
        """∇ log p at every row, shape (n, d), in the units of X; for t > 0 `network_score`.

        Of a table with categories it is that of log p(x | k), with respect to the d columns of
        numbers and dates, here and in the other derivatives; NaN where a value is missing.

        At t = 0 it is the gradient of `score_samples`, of the same solution; above 32 dimensions
        that of its estimate, with the same probes. With discrete columns it is that of the density
        from which they are rounded.

        **Raises:** `InputError` for a t that is not in [0, T].

        **Cost** of a row: 246 evaluations of the network as a rule, half of them with d tangents
        (16 above 32 dimensions), and a reverse sweep over 82: five times `score_samples`.
        """
        rows, c = self._numbers(X, C)
        return _there(rows, self.fitted_.whole.score(rows, t, c))

    def network_score(self, X: Any, t: float, *, C: Any = None) -> np.ndarray:
        """s_θ(x, t), the network's estimate of ∇ log q_t, shape (n, d), in the units of X.

        Near t = 0 it is no gradient of `score_samples`: hardly any noise, and hardly anything
        learnt. From 0 to t_min it is that of t_min.

        **Raises:** `InputError` for a t that is not in [0, T].

        **Cost:** one evaluation of the network a row.
        """
        rows, c = self._numbers(X, C)
        return _there(rows, self.fitted_.whole.network_score(rows, t, c))

    def hessian_product(self, X: Any, V: Any, t: float = 0.0, *, C: Any = None) -> np.ndarray:
        """∇² log p(x) v for every row x of X and v of V, shape (n, d); for t > 0 the network's
        ∇² log q_t(x) v.

        **Raises:** `InputError` for a t that is not in [0, T], and for V of another shape than X.

        **Cost:** three times `score_function`.
        """
        (rows, c), V = self._numbers(X, C), np.asarray(V, np.float64)
        if V.shape != rows.shape:
            raise InputError(f"V has shape {V.shape}; one vector a row of X is {rows.shape}")
        return _there(rows, self.fitted_.whole.hessian_product(rows, V, t, c))

    def laplacian(
        self, X: Any, t: float = 0.0, n_probes: int | None = None, *, C: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """tr ∇² log p at every row and its standard error, both (n,), in the units of X; for t > 0
        the network's tr ∇² log q_t.

        **Arguments:** `n_probes`, Hadamard probes for an estimate; by default the trace is exact,
        with error 0, up to 32 dimensions, and has 16 probes above.

        **Raises:** `InputError` for a t that is not in [0, T].

        **Cost:** `score_function`, and twice that for each of d or `n_probes` tangents.
        """
        check_positive(n_probes=n_probes)
        rows, c = self._numbers(X, C)
        return self.fitted_.whole.laplacian(rows, t, n_probes, c)

    def _numbers(self, X: Any, C: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """The numbers in the rows, with respect to which log p has derivatives, and c as the
        density takes it."""
        rows, c = self._rows(X, C)
        if not self.fitted_.data.columns:
            raise InputError("a table of categories only has no derivatives")
        self.fitted_.check_inside(rows)
        return rows, self.fitted_.coded(c, np.isnan(rows))


def _there(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values, NaN where those of the rows are missing."""
    return np.where(np.isnan(rows), np.nan, values)
