"""The training rows that a model keeps: which they are, and what becomes of their file."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from scoreode import ScoreODE
from scoreode.cli import main
from scoreode.data.dataset import from_rows
from scoreode.errors import InputError
from scoreode.network import MLP
from scoreode.train.checkpoint import read_arrays, write_arrays
from scoreode.train.kept import keep_rows

TINY = {"order": 1, "steps": 5, "network": MLP(width=8, depth=1), "batch_size": 32, "stack": False}
D = 34  # more columns than a stack's kernels have


def table(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, D)) * np.geomspace(1e-3, 1e6, D) + 7


@pytest.fixture(scope="module")
def fitted():
    return ScoreODE(**TINY).fit(table(80))


def minus_log_density(x, rows):
    kernels = stats.norm(rows, 0.3 * rows.std(0)).logpdf(x[:, None]).sum(2)
    return np.log(len(rows)) - logsumexp(kernels, axis=1)


def test_scores_are_by_all_rows_and_survive_saving(fitted, tmp_path):
    odd = table(5, seed=1)
    expected = minus_log_density(odd, table(80))
    np.testing.assert_allclose(fitted.anomaly_score(odd), expected, rtol=1e-9)
    fitted.save(tmp_path / "saved")
    again = ScoreODE.load(tmp_path / "saved").anomaly_score(odd)
    np.testing.assert_array_equal(again, fitted.anomaly_score(odd))
    assert main(["export", str(tmp_path / "saved"), "--out", str(tmp_path / "copy")]) == 0
    copy = ScoreODE.load(tmp_path / "copy")
    np.testing.assert_array_equal(copy.anomaly_score(odd), again)


def test_a_model_whose_rows_were_deleted_has_minus_log_p(fitted, tmp_path):
    fitted.save(tmp_path / "run")
    (tmp_path / "run" / "rows.safetensors").unlink()
    alone, odd = ScoreODE.load(tmp_path / "run"), table(5, seed=1)
    np.testing.assert_array_equal(alone.anomaly_score(odd), -alone.score_samples(odd))
    np.testing.assert_allclose(
        alone.anomaly_score(odd, reference=table(80)), fitted.anomaly_score(odd), rtol=1e-9
    )


def test_files_that_are_damaged_or_of_other_columns(fitted, tmp_path):
    fitted.save(tmp_path / "run")
    file = tmp_path / "run" / "rows.safetensors"
    arrays = read_arrays(file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"rows\.safetensors: damaged"):
        ScoreODE.load(tmp_path / "run")
    write_arrays(file, {name: array[..., 1:] for name, array in arrays.items()})
    with pytest.raises(InputError, match=r"rows\.safetensors: does not fit its configuration"):
        ScoreODE.load(tmp_path / "run")


def test_of_many_rows_5000_and_the_spread_of_all():
    rows = np.random.default_rng(0).gamma(2.0, size=(6000, 2))
    data = from_rows("many", rows, ("a", "b"), 0, 0.1)
    kept = keep_rows(data)
    assert kept is not None
    np.testing.assert_array_equal(kept.rows, data.train[:5000])
    np.testing.assert_allclose(kept.std, 0.3 * data.train[:].std(0), rtol=1e-12)


def test_rows_with_gaps_are_kept_by_none():
    X = table(60)[:, :2]
    X[::7, 1] = np.nan
    est = ScoreODE(**TINY).fit(X)
    assert est.fitted_.kept is None
    np.testing.assert_array_equal(est.anomaly_score(X[:9]), -est.score_samples(X[:9]))
    with pytest.raises(InputError, match="or gaps have −log p for score; leave it out"):
        est.anomaly_score(X[1:3], reference=X)
