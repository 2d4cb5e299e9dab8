"""The callable itself: what it appends, to which tables, and that parts have the values of rows."""

import inspect
import pickle
import re
import subprocess
import sys
from contextlib import contextmanager

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest
from pandas.testing import assert_frame_equal

from scoreode import ScoreODE
from scoreode.adapters import engines
from scoreode.adapters.engines import Scorer
from scoreode.train import saved

APPENDED = ["nats", "stderr", "error", "converged"]


def test_values_are_those_of_the_run(run, rows, expected):
    """As `scoreode nll` has them, whose rows are counted from 0."""
    fitted = saved.load(run)
    codes = fitted.data.kinds["city"].encode(rows["city"].to_list(), "city")
    days = (rows["day"] - pd.Timestamp(0)).dt.days
    columns = {"x": rows["x"], "n": rows["n"], "day": days}
    x = np.stack([columns[name] for name in fitted.data.columns], 1).astype(float)
    found = fitted.log_likelihood(x, c=np.stack([codes, rows["c"]], 1))
    for name in APPENDED:
        np.testing.assert_array_equal(expected[name], getattr(found, name))
    assert list(expected.columns) == [*rows.columns, *APPENDED]
    assert_frame_equal(expected[rows.columns], rows)
    assert expected["converged"].any()


@pytest.mark.parametrize("kind", ["dict", "polars", "iterator", "columns", "index"])
def test_every_kind_of_table(score, rows, expected, kind):
    if kind == "dict":
        table = {name: rows[name].to_numpy() for name in rows}
        found = score(table)
        assert list(found) == list(expected.columns)
        assert all(found[name] is table[name] for name in rows)
        found = pd.DataFrame(found)
    elif kind == "polars":
        found = score(pl.from_pandas(rows))
        assert isinstance(found, pl.DataFrame)
        found = found.to_pandas()
    elif kind == "iterator":
        found = pd.concat(score(iter([rows[:0], rows[:170], rows[170:]])))
    elif kind == "columns":
        predict = score.make_predict_fn()
        assert len(inspect.signature(predict).parameters) == len(score.columns)
        found = rows.assign(**predict(*(rows[name].to_numpy() for name in score.columns)))
        found["converged"] = found["converged"].astype(bool)
    else:
        found = score(rows.set_index(rows["id"] * 2.5)).reset_index(drop=True)
    assert_frame_equal(found, expected, check_exact=True, check_dtype=False)


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 150])
def test_a_row_has_the_same_value_in_any_part(run, rows, expected, score, size):
    some = rows[:300] if size > 1 else rows[:9]
    for scorer in (score, Scorer(run)):  # noise by the number of the row, and by its values
        whole = scorer(some)
        parts = [scorer(some[i : i + size]) for i in range(0, len(some), size)]
        assert_frame_equal(pd.concat(parts), whole, check_exact=True)
        shuffled = some.sample(frac=1, random_state=0)
        assert_frame_equal(scorer(shuffled).sort_index(), whole, check_exact=True)
    assert not np.array_equal(whole["nats"], expected["nats"][: len(some)]), "other noise"


def test_noise_fills_the_cells(run, rows):
    """Noise that depends on the row's values has the mean of noise that depends on its number."""
    row = rows[:1]
    c = np.linspace(-1, 1, 400)
    many = pd.concat([row] * len(c), ignore_index=True).assign(c=c, id=np.arange(len(c)))
    by_value, by_number = (Scorer(run, number=n)(many)["nats"] for n in (None, "id"))
    error = np.hypot(by_value.std(), by_number.std()) / len(c) ** 0.5
    assert abs(by_value.mean() - by_number.mean()) < 4 * error
    assert by_value.std() == pytest.approx(by_number.std(), rel=0.3)


def test_empty_parts_have_the_types_of_others(run, rows, expected):
    for size in (0, 3):
        found = Scorer(run, number="id")(rows[:size])
        assert found.dtypes.to_list() == expected.dtypes.to_list()
    found = Scorer(run)({name: rows[name].to_numpy()[:0] for name in rows})
    assert [found[name].dtype for name in APPENDED] == [float, float, float, bool]


@contextmanager
def compilations():
    found = []
    listen = lambda name, *_, **__: found.append(name) if "backend_compile" in name else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_parts_of_all_sizes_have_one_compilation(score, rows):
    score(rows)
    with compilations() as found:
        for size in (1, 30, 299, 400):
            score(rows[:size])
    assert not found


def test_a_process_reads_the_model_once(run, rows):
    engines.read.cache_clear()
    for scorer in (Scorer(run), pickle.loads(pickle.dumps(Scorer(run, seed=1))), Scorer(run)):
        scorer(rows[:3])
    assert engines.read.cache_info().misses == 1


@pytest.mark.slow
def test_a_model_that_was_replaced_is_read_again(tmp_path, tiny, rows):
    frame = rows[["x", "c"]]
    for path, columns in (("a", ["x", "c"]), ("b", ["x"])):
        ScoreODE(**tiny).fit(frame[columns]).save(tmp_path / path)
    score = Scorer(tmp_path / "a")
    first = score(frame)
    (tmp_path / "a").rename(tmp_path / "old")
    (tmp_path / "b").rename(tmp_path / "a")
    assert score.columns == ("x",)
    assert not np.array_equal(score(frame)["nats"], first["nats"])


def test_it_is_pickled_as_a_path(run):
    assert len(pickle.dumps(Scorer(run))) < 1000


@pytest.mark.slow
def test_no_engine_is_needed():
    script = """
import sys
for name in ("ray", "pyspark", "dask", "pandas", "polars"):
    sys.modules[name] = None
import scoreode.adapters.engines
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "no column x among note, c, n"),
        ({"stderr": 1.0}, "the table has a column stderr; give a prefix"),
        ({"city": "Rom"}, "the table: column city, row 1 holds 'Rom', which training did not have"),
        ({"x": np.nan}, "the table: missing, infinite or huge values in rows 1, 2, 3, column x"),
    ],
)
def test_tables_that_do_not_fit(score, rows, change, message):
    table = rows[:3].assign(**change)
    table = table.drop(columns=[name for name, value in change.items() if value is None])
    with pytest.raises(ValueError, match=re.escape(message)):
        score(table)


def test_a_prefix_makes_room(run, rows):
    both = Scorer(run, prefix="b_")(Scorer(run)(rows[:5]))
    np.testing.assert_array_equal(both["nats"], both["b_nats"])


def test_wrong_options(run, tmp_path):
    with pytest.raises(ValueError, match="not a run"):
        Scorer(tmp_path)
    for wrong in ({"samples": 0}, {"n_probes": 1}, {"tolerance": 0}, {"seed": -1}, {"stderr": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Scorer(run, **wrong)
