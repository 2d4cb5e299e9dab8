"""Five simulators of the benchmark of simulation-based inference (sbibm; Lueckmann et al. 2021).

Written from their published definitions. Its wheel has ten observations of each, and 10,000 draws
of the posterior given every one (`Wheel`); neither is needed to simulate. `python
benchmarks/simulators.py check` holds the simulators against both.
"""

import bz2
import io
import zipfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from posteriors import TwoMoons as Moons
from scipy import stats

Rows = np.ndarray  # (n, parameters) or (n, data)


@dataclass(frozen=True)
class Box:
    """Uniform on [−half, half]^d."""

    half: float
    d: int

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        return rng.uniform(-self.half, self.half, (n, self.d))

    def log_density(self, theta: Rows) -> np.ndarray:
        """Up to a constant."""
        return np.where(np.all(np.abs(theta) <= self.half, 1), 0.0, -np.inf)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        return [(-self.half, self.half)] * self.d


@dataclass(frozen=True)
class Normal:
    """Independent normal parameters."""

    mean: np.ndarray
    sd: np.ndarray
    bounds = None

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        return rng.normal(self.mean, self.sd, (n, len(self.mean)))

    def log_density(self, theta: Rows) -> np.ndarray:
        """Up to a constant."""
        return -0.5 * np.sum(((theta - self.mean) / self.sd) ** 2, 1)


class Task(ABC):
    """A prior, and a simulator with a likelihood."""

    prior: Box | Normal

    @abstractmethod
    def simulate(self, theta: Rows, rng: np.random.Generator) -> Rows:
        """An x of every θ."""

    @abstractmethod
    def log_likelihood(self, theta: Rows, x: Rows) -> np.ndarray:
        """log p(x | θ) of every row, up to a function of x."""

    def pairs(self, n: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """θ of the prior, and x."""
        theta = self.prior.sample(n, rng)
        return theta, self.simulate(theta, rng)

    def read_parameters(self, theta: Rows) -> Rows:
        """Parameters of the wheel as they are modelled."""
        return theta

    def read_data(self, x: Rows) -> Rows:
        """Observations of the wheel as they are modelled."""
        return x


class GaussianLinear(Task):
    """θ ~ N(0, I/10) in ten dimensions, x ~ N(θ, I/10): the posterior is N(x/2, I/20)."""

    variance = 0.1
    prior = Normal(np.zeros(10), np.full(10, variance**0.5))

    def simulate(self, theta: Rows, rng: np.random.Generator) -> Rows:
        return rng.normal(theta, self.variance**0.5)

    def log_likelihood(self, theta: Rows, x: Rows) -> np.ndarray:
        return -0.5 * np.sum((x - theta) ** 2, 1) / self.variance

    def posterior(self, n: int, x: np.ndarray, rng: np.random.Generator) -> Rows:
        """n exact draws given one x."""
        return rng.normal(x / 2, (self.variance / 2) ** 0.5, (n, len(x)))


class GaussianMixture(Task):
    """θ ~ U[−10, 10]²; x is θ with noise of standard deviation 1 or 0.1, as likely."""

    prior = Box(10.0, 2)
    scales = np.array([1.0, 0.1])

    def simulate(self, theta: Rows, rng: np.random.Generator) -> Rows:
        return rng.normal(theta, rng.choice(self.scales, (len(theta), 1)))

    def log_likelihood(self, theta: Rows, x: Rows) -> np.ndarray:
        square = np.sum((x - theta) ** 2, 1)
        wide, narrow = (-0.5 * square / s**2 - 2 * np.log(s) for s in self.scales)
        return np.logaddexp(wide, narrow)


class TwoMoons(Task):
    """θ ~ U[−1, 1]²; the posterior has two crescents."""

    prior = Box(1.0, 2)
    moons = Moons()

    def simulate(self, theta: Rows, rng: np.random.Generator) -> Rows:
        return self.moons.simulate(theta, rng)

    def log_likelihood(self, theta: Rows, x: Rows) -> np.ndarray:
        return self.moons.log_likelihood(theta, x)


class SLCP(Task):
    """Simple likelihood, complex posterior: θ ~ U[−3, 3]⁵; x is four points of N(m, S) in a plane.

    m = (θ_1, θ_2), the standard deviations are θ_3² and θ_4², and the correlation is tanh θ_5.
    """

    prior = Box(3.0, 5)
    points = 4
    jitter = 1e-6  # on the variances

    def _parts(self, theta: Rows) -> tuple[np.ndarray, ...]:
        """Mean (n, 1, 2), and Cholesky's factor of S: its entries 11, 21 and 22, (n, 1) each."""
        a, b = theta[:, 2:3] ** 4 + self.jitter, theta[:, 3:4] ** 4 + self.jitter
        covariance = np.tanh(theta[:, 4:5]) * (theta[:, 2:3] * theta[:, 3:4]) ** 2
        first = np.sqrt(a)
        return theta[:, None, :2], first, covariance / first, np.sqrt(b - covariance**2 / a)

    def simulate(self, theta: Rows, rng: np.random.Generator) -> Rows:
        mean, l11, l21, l22 = self._parts(theta)
        u, v = np.moveaxis(rng.normal(size=(len(theta), self.points, 2)), 2, 0)
        return (mean + np.stack([l11 * u, l21 * u + l22 * v], 2)).reshape(len(theta), -1)

    def log_likelihood(self, theta: Rows, x: Rows) -> np.ndarray:
        mean, l11, l21, l22 = self._parts(theta)
        e = x.reshape(len(x), self.points, 2) - mean
        u = e[..., 0] / l11
        v = (e[..., 1] - l21 * u) / l22
        return -0.5 * np.sum(u**2 + v**2, 1) - self.points * np.log(l11 * l22)[:, 0]


class SIR(Task):
    """An epidemic among a million; x counts the infected among 1000 people every 17 days.

    θ = (log β, log γ), rates of contact and of recovery a day. Modelled are square roots of counts,
    which have one scale, from day 17 on: on day 0 one is infected, whatever θ is.
    """

    prior = Normal(np.log([0.4, 0.125]), np.array([0.5, 0.2]))
    people, counted, days, every = 1e6, 1000, 160, 17
    steps = 4  # of Runge and Kutta, a day

    def infected(self, theta: Rows) -> Rows:
        """The infected share of the people on every day that counts, (n, 9)."""
        beta, gamma = np.exp(theta).T

        def slope(state: np.ndarray) -> np.ndarray:
            new = beta * state[0] * state[1]
            return np.stack([-new, new - gamma * state[1]])

        state = np.repeat([[1 - 1 / self.people], [1 / self.people]], len(theta), axis=1)
        h, shares = 1 / self.steps, []
        for step in range(self.days * self.steps):
            if step and step % (self.every * self.steps) == 0:
                shares.append(state[1])
            a = slope(state)
            b = slope(state + h / 2 * a)
            c = slope(state + h / 2 * b)
            state = state + h / 6 * (a + 2 * b + 2 * c + slope(state + h * c))
        return np.clip(np.stack(shares, 1), 0, 1)

    def simulate(self, theta: Rows, rng: np.random.Generator) -> Rows:
        return np.sqrt(rng.binomial(self.counted, self.infected(theta)))

    def log_likelihood(self, theta: Rows, x: Rows) -> np.ndarray:
        counts = np.rint(np.asarray(x) ** 2)
        return stats.binom.logpmf(counts, self.counted, self.infected(theta)).sum(1)

    def read_parameters(self, theta: Rows) -> Rows:
        return np.log(theta)

    def read_data(self, x: Rows) -> Rows:
        return np.sqrt(x[:, 1:])


TASKS: dict[str, Task] = {
    "gaussian_linear": GaussianLinear(),
    "gaussian_mixture": GaussianMixture(),
    "two_moons": TwoMoons(),
    "slcp": SLCP(),
    "sir": SIR(),
}


class Wheel:
    """The files of sbibm's wheel, which `pip download --no-deps sbibm` brings."""

    def __init__(self, path: Path):
        if not zipfile.is_zipfile(path):
            raise SystemExit(f"{path}: no wheel; pip download --no-deps sbibm brings it")
        self._files = zipfile.ZipFile(path)

    def observation(self, task: str, i: int) -> np.ndarray:
        """The i-th x, i from 1 to 10, as it is modelled."""
        return TASKS[task].read_data(self._table(task, i, "observation.csv"))[0]

    def truth(self, task: str, i: int) -> np.ndarray:
        """The parameters that it was simulated from."""
        return TASKS[task].read_parameters(self._table(task, i, "true_parameters.csv"))[0]

    def posterior(self, task: str, i: int) -> Rows:
        """10,000 draws of the posterior given the i-th x."""
        found = self._table(task, i, "reference_posterior_samples.csv.bz2")
        return TASKS[task].read_parameters(found)

    def _table(self, task: str, i: int, name: str) -> Rows:
        data = self._files.read(f"sbibm/tasks/{task}/files/num_observation_{i}/{name}")
        data = bz2.decompress(data) if name.endswith(".bz2") else data
        return np.loadtxt(io.BytesIO(data), delimiter=",", skiprows=1, ndmin=2)
