"""`nll` of rows that the run was trained on: counted, and said."""

import json

import numpy as np
import polars as pl
import pytest
from environment import SCALED

from scoreode.evaluate.seen import Seen, _keys


def evaluated(cli, *args):
    result = cli("nll", *args, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)["trained_on"], result.err


@pytest.mark.slow
def test_the_training_file_and_copies_of_it(cli, trained, table, tmp_path):
    frame = pl.read_csv(table)
    frame.sample(fraction=1, shuffle=True, seed=0).write_csv(tmp_path / "shuffled.csv")
    np.save(tmp_path / "array.npy", frame.to_numpy())
    for path in (table, tmp_path / "shuffled.csv", tmp_path / "array.npy"):
        count, said = evaluated(cli, trained, path)
        assert count == 180, "a tenth of 200 was held out"
        assert f"{path}: 180 of 200 rows are among those that the run was trained on" in said
    assert cli("nll", trained, table, "--quiet").err == ""


def test_a_leak_of_a_few_rows(cli, trained, rows, tmp_path):
    fresh = np.random.default_rng(1).normal(size=(50, 2)) * [1, 50] + [0, 300]
    np.save(tmp_path / "fresh.npy", fresh)
    count, said = evaluated(cli, trained, tmp_path / "fresh.npy")
    assert count == 0
    assert "trained on" not in said
    np.save(tmp_path / "leak.npy", np.concatenate([fresh, rows[:20]]))
    count, said = evaluated(cli, trained, tmp_path / "leak.npy")
    assert 10 < count <= 20
    assert f"{count} of 70 rows" in said


@pytest.mark.slow
def test_where_the_data_of_the_run_are_gone(cli, table, tiny, tmp_path):
    data = tmp_path / "data.csv"
    data.write_text(table.read_text())
    assert cli("fit", data, *tiny, "--steps", 5, "--out", tmp_path / "run").code == 0
    copy = data.rename(tmp_path / "renamed.csv")
    assert evaluated(cli, tmp_path / "run", copy)[0] == 180, "it is the same file"
    pl.read_csv(copy)[:50].write_csv(tmp_path / "some.csv")
    assert evaluated(cli, tmp_path / "run", tmp_path / "some.csv") == (None, "")


@pytest.mark.slow
def test_a_set_that_is_split_by_another_seed(cli, tiny, tmp_path):
    """The test rows of one seed are among the training rows of the next."""
    options = (*tiny, *SCALED, "--steps", 5, "--seed", 1, "--out", tmp_path / "run")
    assert cli("fit", "digits", *options).code == 0
    few = ("--n-probes", 2, "--tolerance", 100)
    assert evaluated(cli, tmp_path / "run", "digits", "--seed", 1, *few)[0] == 0
    count, said = evaluated(cli, tmp_path / "run", "digits", *few)
    assert count > 200
    assert "of 359 rows are among" in said


@pytest.mark.slow
def test_draws_without_end_are_never_the_same(cli, tiny, tmp_path):
    assert cli("fit", "mixture", *tiny, "--steps", 5, "--out", tmp_path / "run").code == 0
    count, said = evaluated(cli, tmp_path / "run", "mixture", "--split", "validation")
    assert count == 0
    assert "trained on" not in said


@pytest.mark.parametrize("copied", [False, True])
def test_codes_that_coincide_by_chance_are_no_leak(copied):
    rng = np.random.default_rng(0)
    train, held_out, new = (rng.poisson(1.0, (n, 4)).astype(float) for n in (900, 100, 500))
    seen = Seen(np.unique(_keys(train)), _keys(held_out))
    rows = train[:500] if copied else new
    assert sum(map(len, seen.watch(iter([rows[:200], rows[200:]]), lambda x: (x, None)))) == 500
    expected = {tuple(row) for row in train}
    assert seen.count == sum(tuple(row) in expected for row in rows) > 250
    assert bool(str(seen)) == copied


@pytest.mark.slow
def test_a_file_of_codes_is_known_by_its_place(cli, tiny, tmp_path):
    """Nearly every row of few codes is equal to another: only the file tells."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 3, (200, 2)))
    options = (*tiny, "--bin-width", 1, "--steps", 5, "--out", tmp_path / "run")
    assert cli("fit", tmp_path / "x.npy", *options).code == 0
    count, said = evaluated(cli, tmp_path / "run", tmp_path / "x.npy")
    assert count == 200
    assert "200 of 200 rows" in said
    np.save(tmp_path / "new.npy", np.random.default_rng(1).integers(0, 3, (200, 2)))
    assert "trained" not in evaluated(cli, tmp_path / "run", tmp_path / "new.npy")[1]


def test_keys_tell_rows_apart_and_signs_of_zero_not():
    rows = np.random.default_rng(0).normal(size=(100_000, 3))
    assert len(np.unique(_keys(rows))) == len(rows)
    large = 1.7e9 + np.arange(100_000.0)[:, None]  # seconds, which float32 cannot tell apart
    assert len(np.unique(_keys(large))) == len(large)
    np.testing.assert_array_equal(_keys(np.array([[0.0, 1.0]])), _keys(np.array([[-0.0, 1.0]])))


def test_fit_proposes_rows_that_it_held_out_itself(cli, tiny, rows, tmp_path):
    path = tmp_path / "split.npz"
    np.savez(path, x_train=rows[:150], x_test=rows[150:])
    result = cli("fit", path, *tiny, "--steps", 2, "--out", tmp_path / "run")
    assert f"next: scoreode nll {tmp_path}/run {path}," in result.out
    assert evaluated(cli, tmp_path / "run", path) == (0, "")
