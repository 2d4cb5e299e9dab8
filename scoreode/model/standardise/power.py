r"""Power transforms of the columns, fitted jointly so that the rows become Gaussian.

A diffusion model learns densities close to a Gaussian fast, and beyond its training rows it falls
off like a Gaussian. Skewed columns and heavy tails are therefore transformed first. Each column
takes one of two maps with two parameters, where u = (x − origin) / scale:

- one tail: a shifted power (Box and Cox 1964), z = (w^λ − 1) / λ with w = u + shift, or log w if
  λ = 0. The origin is the smallest value in the fit. Below w = shift / 3, z continues as the point
  reflection of the curve above: rows below all fitted ones stay finite, and every z has an x.
- two tails: Johnson's S_U (1949), z = asinh((u − centre) / width).

The parameters maximise the likelihood of one Gaussian with full covariance. So they also find
transforms that make a relation between columns linear, such as a product or a ratio. Columns that
are already normal stay untransformed, unless transforming all columns is worth its parameters.
"""

from typing import Any, Self

import numpy as np
from scipy import optimize
from threadpoolctl import threadpool_limits

from scoreode.model.standardise.affine import deviation
from scoreode.model.standardise.bijection import AbstractBijection, Array
from scoreode.model.standardise.shrinkage import MIN_RELATIVE_VARIANCE

_FITTED_ROWS = 4000  # rows of the fit; more do not change the parameters
_REFLECTED = 1 / 3  # of the shift: rows a little below the fitted ones still lie on the same curve
_GAINS = (0.0, 0.1, np.inf)  # thresholds in nats per row for a map with two tails
_LOG_BELOW = 1e-6  # λ below which the transform is the logarithm
# For both parameters of a map: means and standard deviations of the priors, lower, upper bounds.
_ONE_TAIL = (1.0, -1.0), (1.0, 4.0), (0.0, -9.0), (3.0, 3.0)  # λ, log shift
_TWO_TAILS = (0.0, 1.0), (4.0, 2.0), (-20.0, -5.0), (20.0, 4.0)  # centre, log width

_Search = dict[str, float]  # options of L-BFGS-B
_ROUGH: _Search = {"maxiter": 60, "ftol": 1e-7, "gtol": 1e-4}
_FINE: _Search = {"maxiter": 300, "ftol": 1e-13, "gtol": 1e-7}


class Power(AbstractBijection):
    """z = T(x), column by column: a shifted power, or Johnson's S_U where `two_sided`.

    `first` and `second` are λ and shift of a power, or centre and width of an S_U.
    """

    origin: np.ndarray
    scale: np.ndarray
    first: np.ndarray
    second: np.ndarray
    two_sided: np.ndarray

    # Matrices are small: threads that share one would mostly wait for each other.
    @classmethod
    @threadpool_limits.wrap(limits=1, user_api="blas")
    def fit(cls, x: np.ndarray) -> Self:
        """The joint maximum a posteriori fit: λ ~ N(1, 1), weak priors on the other parameters."""
        rows = np.random.default_rng(0).permutation(len(x))[:_FITTED_ROWS]
        low, middle, scale = x.min(0), np.median(x, 0), _unit(x)
        neither = np.zeros(x.shape[1], bool)
        one, two = (
            _Columns((x[rows] - origin) / scale, kind)
            for origin, kind in ((low, neither), (middle, ~neither))
        )
        # λ = 1 is the identity up to a shift.
        powers, johnsons, identity = one.fit_separately(), two.fit_separately(), one.mean
        loss_one, loss_two = one.losses(powers), two.losses(johnsons)
        penalty = np.log(len(rows)) / len(rows)  # BIC of two parameters, in nats per row
        curved = np.minimum(loss_one, loss_two) < one.losses(identity) - penalty
        fits = []
        # The maps that suit single columns need not be those that make relations linear.
        choices = [curved & (loss_one - loss_two > gain) for gain in _GAINS]
        for two_sided in np.unique(choices, axis=0):
            origin = np.where(two_sided, middle, low)
            columns = _Columns((x[rows] - origin) / scale, two_sided)
            start = np.where(curved, np.where(two_sided, johnsons, powers), identity)
            for free in np.unique([curved, np.ones_like(curved)], axis=0):
                parameters = columns.fit(start, free, _ROUGH)
                loss = columns.loss(parameters) + penalty * free.sum()
                fits.append((loss, origin, columns, parameters, free))
        _, origin, columns, parameters, free = min(fits, key=lambda fit: fit[0])
        first, log_second = columns.fit(parameters, free, _FINE)
        return cls(origin, scale, first, np.exp(log_second), columns.two_sided.astype(float))

    @classmethod
    def identity(cls, d: int) -> Self:
        return cls(np.zeros(d), np.ones(d), np.ones(d), np.ones(d), np.zeros(d))

    def forward(self, x: Array) -> tuple[Array, Array]:
        z, log_slopes = self.by_column(x)
        return z, x.__array_namespace__().sum(log_slopes, axis=-1)

    def by_column(self, x: Array) -> tuple[Array, Array]:
        """z and log dz/dx of every value, both (..., d)."""
        xp = x.__array_namespace__()
        u, two = (x - self.origin) / self.scale, self.two_sided > 0
        # The map that a column does not use gets zeros, so that its gradient does not overflow.
        one = xp.where(two, 0.0, u)
        lam = xp.where(two, 1.0, self.first)
        w, turn = one + self.second, _REFLECTED * self.second
        log_w = xp.log(xp.where(w < turn, 2 * turn - w, w))
        at_turn, above = _box_cox(xp.log(turn), lam), _box_cox(log_w, lam)
        power = xp.where(w < turn, 2 * at_turn - above, above)
        y = xp.where(two, u - self.first, 0.0) / self.second
        slope = xp.where(two, -0.5 * xp.log1p(y**2) - xp.log(self.second), (lam - 1) * log_w)
        return xp.where(two, xp.arcsinh(y), power), slope - xp.log(self.scale)

    def inverse(self, z: Array) -> Array:
        xp = z.__array_namespace__()
        two = self.two_sided > 0
        lam = xp.where(two, 1.0, self.first)
        turn = _REFLECTED * self.second
        at_turn = _box_cox(xp.log(turn), lam)
        one = xp.where(two, at_turn, z)
        above = _box_cox_inverse(xp.where(one < at_turn, 2 * at_turn - one, one), lam)
        w = xp.where(one < at_turn, 2 * turn - above, above)
        johnson = self.first + self.second * xp.sinh(xp.where(two, z, 0.0))
        return self.origin + self.scale * xp.where(two, johnson, w - self.second)


def _unit(x: np.ndarray) -> np.ndarray:
    """The interquartile range of every column, which tails do not affect.

    The standard deviation if that range is 0.
    """
    low, high = np.quantile(x, [0.25, 0.75], axis=0)
    return np.where(high > low, high - low, deviation(x))


def _box_cox(log_w: Array, lam: Array) -> Array:
    """(w^λ − 1) / λ from log w."""
    xp = log_w.__array_namespace__()
    linear = lam < _LOG_BELOW
    safe = xp.where(linear, 1.0, lam)
    return xp.where(linear, log_w, xp.expm1(safe * log_w) / safe)


def _box_cox_inverse(z: Array, lam: Array) -> Array:
    """w from (w^λ − 1) / λ."""
    xp = z.__array_namespace__()
    linear = lam < _LOG_BELOW
    safe = xp.where(linear, 1.0, lam)
    return xp.exp(xp.where(linear, z, xp.log1p(xp.where(linear, 0.0, safe * z)) / safe))


class _Columns:
    """Rows u (n, d) and their maps with parameters (2, d): λ, log shift or centre, log width.

    A loss is a Gaussian NLL plus the parameters' negative log-priors, in nats per row, up to a
    constant.
    """

    def __init__(self, u: np.ndarray, two_sided: np.ndarray):
        self.u, self.two_sided = u, two_sided
        self.mean, self.spread, self.low, self.high = (
            np.where(two_sided, *(np.asarray(kind)[:, None] for kind in kinds))
            for kinds in zip(_TWO_TAILS, _ONE_TAIL, strict=True)
        )

    def fit_separately(self) -> np.ndarray:
        """The parameters (2, d) of the least loss of every column on its own."""
        columns = (_Columns(self.u[:, [j]], self.two_sided[[j]]) for j in range(self.u.shape[1]))
        return np.concatenate([column.fit(column.mean, True, _ROUGH) for column in columns], 1)

    def fit(self, start: np.ndarray, free: np.ndarray | bool, search: _Search) -> np.ndarray:
        """The parameters (2, d) of the least loss with full covariance; only free ones change."""
        low, high = (np.where(free, bound, start).ravel() for bound in (self.low, self.high))

        def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            loss, gradient = self._loss(parameters.reshape(start.shape))
            return loss, gradient.ravel()

        result = optimize.minimize(
            objective,
            np.clip(start.ravel(), low, high),
            jac=True,
            method="L-BFGS-B",
            bounds=np.column_stack([low, high]),
            options={"maxcor": 40, **search},
        )
        return result.x.reshape(start.shape)

    def losses(self, parameters: np.ndarray) -> np.ndarray:
        """The loss of every column on its own, (d,)."""
        z, log_slope, _ = self._transform(parameters)
        return np.log(deviation(z)) - log_slope.mean(0) + self._prior(parameters).sum(0)

    def loss(self, parameters: np.ndarray) -> float:
        """The loss of all columns with full covariance."""
        return self._loss(parameters)[0]

    def _loss(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss with full covariance, and its gradient (2, d)."""
        n = len(self.u)
        z, log_slope, (dz, d_log_slope) = self._transform(parameters)
        centred = z - z.mean(0)
        covariance = centred.T @ centred / n
        covariance[np.diag_indices_from(covariance)] *= 1 + MIN_RELATIVE_VARIANCE
        sign, log_det = np.linalg.slogdet(covariance)
        if sign <= 0 or not np.isfinite(log_det):
            return np.inf, np.zeros_like(parameters)
        along_z = centred @ np.linalg.inv(covariance) / n
        loss = 0.5 * log_det - log_slope.mean(0).sum() + self._prior(parameters).sum()
        gradient = np.sum(along_z * dz, 1) - d_log_slope.mean(1)
        return loss, gradient + (parameters - self.mean) / self.spread**2 / n

    def _prior(self, parameters: np.ndarray) -> np.ndarray:
        return 0.5 * ((parameters - self.mean) / self.spread) ** 2 / len(self.u)

    def _transform(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """z, log dz/du, and the derivatives (2, 2, n, d) of both by the parameters."""
        z, log_slope = np.empty(self.u.shape), np.empty(self.u.shape)
        derivatives = np.empty((2, 2, *self.u.shape))
        for two, transform in ((False, _one_tail), (True, _two_tails)):
            columns = self.two_sided == two
            if columns.all():  # as they are, without copies
                z, log_slope, rates = transform(self.u, *parameters)
                return z, log_slope, np.asarray(rates)
            values = transform(self.u[:, columns], *parameters[:, columns])
            z[:, columns], log_slope[:, columns], derivatives[..., columns] = values
        return z, log_slope, derivatives


def _one_tail(u: np.ndarray, lam: np.ndarray, log_shift: np.ndarray) -> tuple[Any, ...]:
    shift = np.exp(log_shift)
    log_w = np.log(u + shift)
    z, linear = _box_cox(log_w, lam), lam < _LOG_BELOW
    safe = np.where(linear, 1.0, lam)
    dz_dlam = np.where(linear, log_w**2 / 2, (np.exp(safe * log_w) * log_w - z) / safe)
    dz = dz_dlam, np.exp((lam - 1) * log_w) * shift
    return z, (lam - 1) * log_w, (dz, (log_w, (lam - 1) * shift * np.exp(-log_w)))


def _two_tails(u: np.ndarray, centre: np.ndarray, log_width: np.ndarray) -> tuple[Any, ...]:
    width = np.exp(log_width)
    y = (u - centre) / width
    root = np.sqrt(1 + y**2)
    dz = -1 / (width * root), -y / root
    d_log_slope = y / (width * root**2), y**2 / root**2 - 1
    return np.arcsinh(y), -np.log(root) - log_width, (dz, d_log_slope)
