"""What the estimator cannot use is refused by name; NumPy's numbers and generators are taken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scoreode import ScoreODE
from scoreode.network import MLP

ROOT = Path(__file__).parents[2]
TINY = MLP(width=8, depth=1)
NO_COUNT = ("'30'", "True", "1.5", "2.0", "np.nan", "np.inf", "-1", "0", "[1]", "object")
NO_NUMBER = ("'30'", "True", "np.nan", "np.inf", "-1", "0", "[1]", "object")


def small(**options):
    return ScoreODE(**{"order": 1, "steps": 5, "network": TINY, "batch_size": 16} | options)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(60, 2))


@pytest.fixture(scope="module")
def fitted(X):
    return small().fit(X)


# Calls as people write them, and the name that has to be in the message.
PARAMETERS = {
    **dict.fromkeys(("steps", "batch_size", "n_probes", "patience"), NO_COUNT),
    "learning_rate": NO_NUMBER,
    "order": ("'30'", "True", "1.5", "2.0", "np.float32(2)", "np.nan", "-1", "[1]", "None"),
    "validation_fraction": ("'.1'", "True", "np.nan", "-0.1", "1", "[0.1]", "None"),
    "process": ("5", "VE", "None", "['ve']"),
    "network": ("'mlp'", "MLP", "5"),
    "standardise": ("5", "['scale']", "True"),
    "dequantise": ("None", "5"),
    "discrete": ("5", "True", "{}", "[1.5]", "[7]", "['x']"),
    "bin_width": ("'1'", "True", "np.nan", "[1, 'b']", "[[1, 2]]", "[[1], [1, 2]]"),
    "random_state": ("'a'", "-1", "1.5", "2**40", "True"),
}
CALLS = [
    *[
        (f"small({name}={value}).fit(X)", name.replace("bin_width", "bin"))
        for name, values in PARAMETERS.items()
        for value in values
    ],
    *[(f"small(steps=None, seconds={value}).fit(X)", "seconds") for value in NO_NUMBER],
    ("small(network=MLP(width=8.5)).fit(X)", "width"),
    ("small(network=MLP(width='8')).fit(X)", "width"),
    ("small(network=MLP(width=10**8)).fit(X)", "width"),
    ("small(network=MLP(depth=1.5)).fit(X)", "depth"),
    ("small(network=MLP(8, 1, n_features=-1)).fit(X)", "n_features"),
    ("small(network=MLP(8, 1, n_features=4, bandwidth=np.nan)).fit(X)", "bandwidth"),
    ("small(batch_size=10**12).fit(X)", "a step on 1000000000000 rows"),
    *[(f"fitted.sample({n})", "n ") for n in (*NO_COUNT, "None")],
    ("fitted.sample(10**12)", "a draw of 1000000000000 rows"),
    *[(f"fitted.sample(2, random_state={seed})", "random_state") for seed in ("'a'", "-1", "True")],
    *[(f"fitted.log_likelihood(X, samples={value})", "samples") for value in NO_COUNT],
    *[(f"fitted.log_likelihood(X, tolerance={value})", "tolerance") for value in NO_NUMBER],
    *[(f"fitted.log_likelihood(X, stderr={v})", "stderr") for v in NO_NUMBER if v != "0"],
    *[
        (f"small().fit(X, sample_weight={weights})", "sample_weight")
        for weights in ("'a'", "1.0", "np.full(60, 1e308)", "np.ones((60, 1))")
    ],
]
SCRIPT = """
import json, sys
import numpy as np
from scoreode import ScoreODE
from scoreode.network import MLP
from scoreode.process import VE

X = np.random.default_rng(0).normal(size=(60, 2))

def small(**options):
    tiny = {"order": 1, "steps": 5, "network": MLP(width=8, depth=1), "batch_size": 16}
    return ScoreODE(**tiny | options)

fitted, found = small().fit(X), []
for call in json.load(sys.stdin):
    try:
        eval(call)
        found.append(["", "no error"])
    except Exception as error:
        found.append([type(error).__name__, str(error)])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def refusals():
    """What the calls raise, in a process where nothing checks types but the package itself."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps([call for call, _ in CALLS]),
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=240,
    )
    return dict(zip([call for call, _ in CALLS], json.loads(result.stdout), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("call", "name"), CALLS)
def test_what_cannot_be_used_is_named(refusals, call, name):
    kind, message = refusals[call]
    assert kind == "InputError", message
    assert name in message.replace("standardisation", "standardise").replace("isation", "ise")
    assert "\n" not in message


@pytest.mark.slow
def test_numbers_of_numpy_are_numbers(X, tmp_path):
    """As in a search over np.arange and np.logspace; saved, too."""
    options = {
        "order": np.int64(1),
        "steps": np.int64(5),
        "batch_size": np.int32(16),
        "learning_rate": np.float64(3e-3),
        "patience": np.int64(3),
        "validation_fraction": np.float64(0.1),
        "random_state": np.int64(0),
    }
    est = small(**options).fit(X)
    np.testing.assert_array_equal(
        est.score_samples(X), small(learning_rate=3e-3).fit(X).score_samples(X)
    )
    est.save(tmp_path / "model")
    np.testing.assert_array_equal(
        ScoreODE.load(tmp_path / "model").score_samples(X), est.score_samples(X)
    )


@pytest.mark.slow
def test_a_generator_of_numpy_is_a_random_state(X, fitted):
    """Equal generators give equal results, and are drawn from: the next are others."""
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    first = fitted.sample(4, random_state=one)
    np.testing.assert_array_equal(first, fitted.sample(4, random_state=other))
    assert not np.allclose(first, fitted.sample(4, random_state=one))
    models = [small(random_state=np.random.default_rng(5)).fit(X) for _ in range(2)]
    np.testing.assert_array_equal(*(model.score_samples(X) for model in models))
    third = small(random_state=one).fit(X)
    assert not np.array_equal(third.score_samples(X), models[0].score_samples(X))


@pytest.mark.slow
def test_values_beyond_the_training_range(X):
    """By column: one row above in the first, one below in the second, one that is the extreme."""
    C = X[:, :1] ** 2
    est = small(validation_fraction=0.0).fit(X, C)
    high, low = X.max(0), X.min(0)
    rows = np.array([high, [high[0] + 1e-9, 0], [0, low[1] - 1e-9]])
    expected = [[False] * 3, [True, False, False], [False, True, False]]
    np.testing.assert_array_equal(est.beyond_training(rows, C[:3]), expected)
    above = est.beyond_training(rows, C.max(keepdims=True) + 1)
    np.testing.assert_array_equal(above, np.array(expected) | [False, False, True])


@pytest.mark.slow
def test_pixels_share_a_range():
    images = np.random.default_rng(0).integers(10, 200, size=(40, 2, 2, 1)).astype(float)
    est = small(validation_fraction=0.0, standardise="centre").fit(images)
    dark, least = np.full((1, 4), images.min()), images.min() - 1
    assert not est.beyond_training(dark).any()
    assert est.beyond_training(np.array([[least, 50, 50, 50]])).tolist() == [[True] + [False] * 3]
