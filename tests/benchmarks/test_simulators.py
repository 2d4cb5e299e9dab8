"""What the benchmark of simulators measures with: tasks, classifier, chains and pages."""

import bz2
import json
from argparse import Namespace
from zipfile import ZipFile

import numpy as np
import pytest
import simulators
from scipy import stats
from scipy.integrate import solve_ivp
from simulator_tasks import SIR, TASKS, Wheel
from simulators import c2st, metropolis

EDGES = "two_moons"  # the support of its x moves with θ


@pytest.mark.parametrize("name", [name for name in TASKS if name != EDGES])
def test_likelihoods_are_those_of_the_simulators(name):
    """E_x[∂ log p(x | θ) / ∂θ] = 0 for x simulated from θ, and for no other θ."""
    task, rng, n = TASKS[name], np.random.default_rng(0), 2000
    theta = task.prior.sample(1, rng)[0]
    x = task.simulate(np.tile(theta, (n, 1)), rng)

    def z_scores(at):
        """Of the mean derivative in every parameter."""
        found = []
        for step in 1e-4 * np.eye(len(at)):
            ends = (task.log_likelihood(np.tile(at + s * step, (n, 1)), x) for s in (1, -1))
            slope = np.subtract(*ends)
            found.append(slope.mean() / (slope.std() / n**0.5))
        return np.abs(found)

    assert z_scores(theta).max() < 4.5
    assert z_scores(theta + 0.2 * task.prior.sample(1, rng)[0]).max() > 6


def test_prior_times_likelihood_is_the_posterior_of_the_gaussian():
    task, rng = TASKS["gaussian_linear"], np.random.default_rng(0)
    theta, x = rng.normal(size=(50, 10)), np.tile(rng.normal(size=10), (50, 1))
    product = task.prior.log_density(theta) + task.log_likelihood(theta, x)
    closed = stats.norm(x / 2, 0.05**0.5).logpdf(theta).sum(1)
    np.testing.assert_allclose(product - closed, (product - closed)[0])
    drawn = task.posterior(4000, x[0], rng)
    assert stats.kstest((drawn - x[0] / 2).ravel() / 0.05**0.5, "norm").pvalue > 1e-3


def test_chains_keep_exact_posteriors_and_repair_wrong_ones():
    task, rng = TASKS["two_moons"], np.random.default_rng(0)
    x = task.pairs(1, rng)[1][0]
    exact, other = (task.moons.sample(1000, x, rng) for _ in range(2))

    def p_value(theta):
        # Along the crescents: both of them have the same differences.
        return stats.ks_2samp(theta @ [1, -1], exact @ [1, -1]).pvalue

    assert p_value(metropolis(task, other, x, 30, rng)) > 1e-3
    wrong = other + 0.05 * rng.normal(size=other.shape)
    assert p_value(wrong) < 1e-3
    assert p_value(metropolis(task, wrong, x, 300, rng)) > 1e-3


def test_the_epidemic_is_that_of_an_adaptive_solver():
    theta = np.log([[0.9, 0.1], [0.3, 0.15], [0.2, 0.2]])
    days = np.arange(17, 161, 17)
    for rates, found in zip(np.exp(theta), SIR().infected(theta), strict=True):

        def slope(_t, y, rates=rates):
            new = rates[0] * y[0] * y[1]
            return [-new, new - rates[1] * y[1]]

        exact = solve_ivp(slope, (0, 160), [1 - 1e-6, 1e-6], "DOP853", days, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(found, exact.y[1], rtol=1e-4)


@pytest.mark.slow
def test_classifiers_find_what_can_be_found():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 400, 1))
    assert c2st(a, b, 0) == pytest.approx(0.5, abs=4 * 0.5 / 800**0.5)
    # Best between N(0, 1) and N(2, 1): which side of 1.
    assert c2st(a, b + 2, 0) == pytest.approx(stats.norm.cdf(1), abs=0.04)
    assert c2st(a, b + 20, 0) == 1.0


def test_a_wheel_is_read(tmp_path):
    folder, file = "sbibm/tasks/sir/files/num_observation_3", tmp_path / "sbibm.whl"
    with ZipFile(file, "w") as archive:
        archive.writestr(f"{folder}/observation.csv", "data_1,data_2\n0.0,9.0\n")
        archive.writestr(f"{folder}/true_parameters.csv", "b,g\n1.0,0.5\n")
        draws = bz2.compress(b"b,g\n1.0,0.5\n2.0,0.25\n")
        archive.writestr(f"{folder}/reference_posterior_samples.csv.bz2", draws)
    wheel = Wheel(file)
    np.testing.assert_allclose(wheel.observation("sir", 3), [3])
    np.testing.assert_allclose(wheel.truth("sir", 3), np.log([1, 0.5]))
    np.testing.assert_allclose(wheel.posterior("sir", 3), np.log([[1, 0.5], [2, 0.25]]))


def test_what_is_no_wheel_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="pip download --no-deps sbibm"):
        Wheel(tmp_path / "sbibm.whl")


class Exact:
    """The posterior of the Gaussian task, as a method."""

    def __init__(self, task, theta, _x, _seconds, seed):
        self.rng, self.task, self.told = np.random.default_rng(seed), task, {"steps": len(theta)}

    def sample(self, n, x):
        return np.stack([self.task.posterior(n, each, self.rng) for each in x], 1)

    def log_density(self, theta, x):
        return stats.norm(x / 2, 0.05**0.5).logpdf(theta).sum(1)


def test_the_exact_posterior_is_found_calibrated_and_told_on_the_page(tmp_path, monkeypatch):
    task = TASKS["gaussian_linear"]
    wheel = Namespace(
        observation=lambda _, i: np.full(10, 0.1 * i),
        posterior=lambda _, i: task.posterior(300, np.full(10, 0.1 * i), np.random.default_rng(9)),
    )
    monkeypatch.setattr(simulators, "Wheel", lambda _: wheel)
    monkeypatch.setattr(simulators, "Scoreode", Exact)
    monkeypatch.setattr(simulators, "PACKAGES", ("jax",))  # sbi and torch are not needed here
    monkeypatch.setattr(simulators, "c2st", lambda *_: 0.5)  # which takes long, and has its test
    known = {"simulations": 100, "seconds": 1.0, "draws": 300, "pairs": 400, "rank_draws": 49}
    chosen = {"tasks": ["gaussian_linear"], "methods": ["scoreode"], "seeds": [0]}
    args = Namespace(out=tmp_path / "runs", sbibm=None, observations=[1, 2], **known, **chosen)
    simulators.run(args)
    page, table = tmp_path / "page.md", tmp_path / "found.json"
    begin, end = "<!-- measured: benchmarks/simulators.py -->", "<!-- end -->"
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n{end}\n")
    simulators.summarise(Namespace(folder=args.out, json=table, page=page))
    (record,) = json.loads(table.read_text())
    assert min(record["rank_p_values"]) > 1e-3
    assert record["coverage_p_value"] > 1e-3
    entropy = 5 * np.log(2 * np.pi * np.e * 0.05)
    assert abs(record["nats"] + entropy) < 4 * record["nats_stderr"]
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"\nafter\n{end}\n")
    assert "old" not in text
    assert "| `gaussian_linear` | 0.500 ± 0.000 |" in text
