"""The public contract of the commands: what they take, print and leave on disk."""

import importlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from environment import SCALED

from scoreode.cli.commands import training
from scoreode.data import sources, tables
from scoreode.model.config import PROCESSES
from scoreode.reproduce import paper
from scoreode.reproduce.paper import REPRODUCTIONS
from scoreode.train import RunFolder, saved, smoothing

CONTRACT = {
    "n": int,
    "d": int,
    "nats_mean": float,
    "nats_stderr": float,
    "probe_stderr": float,
    "bits_per_dim": (float, type(None)),
    "bits_per_dim_stderr": (float, type(None)),
    "error_mean": float,
    "nfe_mean": float,
    "nfe_quantiles": list,
    "nfe_max": int,
    "unconverged": int,
    "unconverged_rows": list,
    "seconds": float,
    "trained_on": int,
}


@pytest.mark.parametrize("command", ["fit", "nll", "report", "sample", "list", "reproduce"])
def test_help_shows_examples(cli, command):
    result = cli(command, "--help")
    assert result.code == 0
    assert f"xample: scoreode {command}" in result.said.replace("xamples", "xample")


def test_help_names_every_command(cli):
    result = cli("--help")
    assert result.code == 0
    for command in ("fit", "nll", "report", "sample", "list", "reproduce"):
        assert f" {command} " in result.said


@pytest.mark.parametrize("args", [["--help"], ["fit", "--help"], ["nll", "--help"]])
def test_help_imports_nothing_heavy(args):
    script = (
        "import sys\n"
        "from scoreode.cli import main\n"
        f"code = main({args!r})\n"
        "heavy = {'jax', 'matplotlib', 'sklearn', 'polars', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: scoreode" in done.stdout


def test_list_names_what_can_be_named(cli):
    result = cli("list")
    assert result.code == 0
    words = set(result.out.split())
    assert words >= {*sources.DATA_NAMES, *REPRODUCTIONS, *PROCESSES}


@pytest.mark.slow
@pytest.mark.parametrize("order", [None, 3])
def test_orders_act_by_themselves_or_as_asked(cli, table, tmp_path, order):
    run = tmp_path / "run"
    options = ("--width", 8, "--depth", 1, "--batch-size", 32, "--steps", 5)
    asked = () if order is None else ("--order", order)
    result = cli("fit", table, *options, *asked, "--out", run)
    assert result.code == 0
    config = json.loads((run / "config.json").read_text())["run"]
    assert config["auto_order"] is (order is None)
    assert config["objective"]["order"] == 3
    assert config["objective"]["process"]["type"] == "VE"
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    # In the loss before the end, or not in so few steps.
    assert (last["third"] > 0) is (order == 3)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["j_diff"] == pytest.approx(summary["exact_nll"] - summary["sde_bound"])
    assert summary["j_diff_stderr"] > 0
    assert ("orders 2 and 3 did not act" in result.out) is (order is None)


@pytest.mark.parametrize(("seconds", "said"), [(40.0, True), (98.0, False)])
def test_the_result_says_how_many_seconds_were_not_needed(trained, table, seconds, said):
    fitted = saved.load(trained)
    run = replace(fitted.run, steps=None, seconds=100.0)
    line = training._readable(
        replace(fitted, run=run, seconds=seconds), trained, sources.load_data(str(table))
    )
    assert ("60 s of the budget not needed" in line) is said
    assert ("not needed" in line) is said


@pytest.mark.slow
def test_a_run_folder_says_how_it_came_about(trained, table):
    config = json.loads((trained / "config.json").read_text())
    run = config["run"]
    assert run["steps"] == 40
    assert run["network"] == {"type": "MLP"} | run["network"] | {"width": 16, "depth": 1}
    assert run["batch_size"] == 32
    assert run["objective"]["order"] == 1
    assert config["data"]["name"].endswith(table.name)
    assert config["data"]["columns"] == ["length", "weight"]
    assert {"python", "scoreode", "jax", "equinox", "diffrax", "numpy"} <= set(config["versions"])

    summary = json.loads((trained / "summary.json").read_text())
    assert summary["order"] == 1
    assert summary["steps"] == 40
    assert np.isfinite(summary["validation_nats"])

    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 40
    assert lines[-1]["progress"] == 1
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert lines[-1]["validation_nats"] >= summary["validation_nats"] - 1e-12

    assert any((trained / "checkpoints").iterdir())
    assert (trained / "model.safetensors").stat().st_size > 0
    assert not list(trained.glob("*.partial*"))


def test_fit_says_where_the_run_is_and_what_comes_next(cli, table, tiny):
    result = cli("fit", table, *tiny, "--steps", 2)
    assert result.code == 0
    assert "saved to runs/table-1" in result.out
    assert "scoreode nll runs/table-1 NEW.csv" in result.out, "rows it was not trained on"
    again = cli("fit", table, *tiny, "--steps", 2)
    assert "saved to runs/table-2" in again.out


def test_few_rows_train_with_noise_and_say_so(cli, table, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(smoothing, "SHARES", (0.5,))
    monkeypatch.setattr(smoothing, "LEAST_STEPS", 4)
    result = cli("fit", table, *tiny, "--steps", 4, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    h = saved.load(tmp_path / "run").run.smoothing
    assert h > 0
    assert "few rows: short trainings choose the noise" in result.err
    assert f"with noise of {h:.2g} on standardised rows" in result.said
    plain = cli("fit", table, *tiny, "--steps", 4, "--smoothing", 0, "--out", tmp_path / "plain")
    assert saved.load(tmp_path / "plain").run.smoothing == 0
    assert "with noise" not in plain.said
    assert "short trainings" not in plain.said


def test_same_seed_same_numbers(cli, trained, table, tiny, tmp_path, metrics):
    again, other = tmp_path / "again", tmp_path / "other"
    assert cli("fit", table, *tiny, "--steps", 40, "--out", again).code == 0
    assert cli("fit", table, *tiny, "--steps", 40, "--seed", 1, "--out", other).code == 0
    weights = (trained / "model.safetensors").read_bytes()
    assert (again / "model.safetensors").read_bytes() == weights
    assert metrics(again) == metrics(trained)
    assert (other / "model.safetensors").read_bytes() != weights


def test_nll_prints_one_json_object(cli, trained, table, rows):
    result = cli("nll", trained, table, "--json")
    assert result.code == 0
    summary = json.loads(result.out)
    for name, kind in CONTRACT.items():
        assert isinstance(summary[name], kind), name
    assert summary["n"] == len(rows)
    assert summary["d"] == 2
    assert summary["unconverged"] == 0
    assert summary["bits_per_dim"] is None
    assert summary["nfe_max"] >= summary["nfe_mean"] > 0
    # The data's own Gaussian has −6.2 nats: right units, and not far off after so little training.
    gaussian = -0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(rows.T))[1]
    assert summary["nats_mean"] == pytest.approx(gaussian, abs=1.0)


def test_nll_writes_every_row(cli, trained, table, rows, tmp_path):
    out = tmp_path / "rows.csv"
    result = cli("nll", trained, table, "--out", out, "--json")
    assert result.code == 0
    frame = pl.read_csv(out)
    assert frame.columns == ["nats", "stderr", "error", "nfe", "converged"]
    assert len(frame) == len(rows)
    assert frame["nats"].mean() == pytest.approx(json.loads(result.out)["nats_mean"])


def test_nll_reads_well(cli, trained, table):
    result = cli("nll", trained, table)
    assert result.code == 0
    assert "nats" in result.out
    assert "200 rows" in result.out
    assert "all rows converged" in result.out


def test_a_row_counts_the_same_in_any_file(cli, trained, rows, tmp_path):
    np.save(tmp_path / "three.npy", rows[:3])
    np.save(tmp_path / "one.npy", rows[1:2])
    values = {}
    for name in ("three", "one"):
        out = tmp_path / f"{name}.csv"
        assert cli("nll", trained, tmp_path / f"{name}.npy", "--out", out).code == 0
        values[name] = pl.read_csv(out)["nats"].to_list()
    assert values["one"] == values["three"][1:2]


def test_nll_of_one_row_has_no_spread(cli, trained, rows, tmp_path):
    np.save(tmp_path / "one.npy", rows[:1])
    result = cli("nll", trained, tmp_path / "one.npy", "--json")
    assert result.code == 0
    assert json.loads(result.out)["nats_stderr"] is None


@pytest.mark.slow
def test_fit_and_nll_of_named_data(cli, tiny, tmp_path):
    run = tmp_path / "run"
    assert cli("fit", "mixture", *tiny, "--steps", 20, "--out", run).code == 0
    result = cli("nll", run, "mixture", "--split", "validation", "--json")
    assert result.code == 0
    summary = json.loads(result.out)
    assert summary["n"] == 2000
    assert summary["d"] == 1
    assert json.loads((run / "config.json").read_text())["data"]["entropy"] == pytest.approx(
        -0.1289, abs=1e-4
    )


def test_rows_are_solved_to_the_tolerance(cli, trained, table, tmp_path):
    def evaluated(tolerance):
        out = tmp_path / f"{tolerance}.npz"
        result = cli("nll", trained, table, "--tolerance", tolerance, "--out", out)
        assert result.code == 0, result.err
        return dict(np.load(out))

    loose = evaluated(100)
    assert (loose["nfe"] == 82).all(), "the coarsest grid"
    tolerance = float(np.median(loose["error"]))
    tight = evaluated(tolerance)
    np.testing.assert_array_equal(tight["nfe"] > 82, loose["error"] > tolerance)
    assert (tight["error"] <= np.where(tight["converged"], tolerance, np.inf)).all()
    np.testing.assert_allclose(tight["nats"], loose["nats"], atol=3 * loose["error"].max())


@pytest.mark.parametrize("tolerance", ["0", "-1", "nan"])
def test_tolerances_are_positive(cli, trained, table, tolerance):
    result = cli("nll", trained, table, "--tolerance", tolerance)
    assert result.code == 2
    assert f"tolerance {float(tolerance)}" in result.err


@pytest.mark.slow
def test_digits_have_bits_per_dim_and_lie_on_their_grid(cli, tiny, tmp_path):
    run = tmp_path / "run"
    assert cli("fit", "digits", *tiny, *SCALED, "--steps", 20, "--out", run).code == 0

    np.save(tmp_path / "few.npy", sources.load_data("digits").test[:3])
    summary = json.loads(cli("nll", run, tmp_path / "few.npy", "--json").out)
    assert summary["d"] == 64
    assert summary["probe_stderr"] > 0
    # A grid of width 1: bits are nats over d log 2. 17 uniform levels would need log2 17 = 4.1.
    assert summary["bits_per_dim"] == pytest.approx(-summary["nats_mean"] / 64 / np.log(2))
    assert 0 < summary["bits_per_dim"] < 10
    error = summary["nats_stderr"] / 64 / np.log(2)
    assert summary["bits_per_dim_stderr"] == pytest.approx(error)

    assert cli("sample", run, "-n", 5, "--out", tmp_path / "x.npy").code == 0
    drawn = np.load(tmp_path / "x.npy")
    assert drawn.shape == (5, 64)
    np.testing.assert_array_equal(drawn, np.round(drawn))
    picture = tmp_path / "x.png"
    assert cli("sample", run, "-n", 5, "--out", picture, "--sheet").code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet"])
def test_samples_by_suffix_read_back(cli, trained, tmp_path, suffix):
    out = tmp_path / f"samples{suffix}"
    result = cli("sample", trained, "-n", 7, "--out", out)
    assert result.code == 0
    assert str(out) in result.out
    parts, columns = tables.read(out)
    assert parts["all"].shape == (7, 2)
    if suffix in (".csv", ".parquet"):
        assert columns == ("length", "weight")
    assert abs(parts["all"][:, 1].mean() - 300) < 100, "samples are in the units of the data"


def test_samples_as_a_picture(cli, trained, tmp_path):
    out = tmp_path / "samples.png"
    assert cli("sample", trained, "-n", 7, "--out", out).code == 0
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpm", "sde", "ancestral"])
def test_methods_draw_alike(cli, trained, tmp_path, method):
    out = tmp_path / "samples.npy"
    options = ("-n", 300, "--method", method, "--steps", 200)
    assert cli("sample", trained, *options, "--out", out).code == 0
    exact = saved.load(trained).sample(300, seed=0)
    ratio = np.load(out).std(0) / exact.std(0)
    assert np.all((ratio > 1 / 1.3) & (ratio < 1.3))


@pytest.mark.parametrize(
    ("method", "steps", "said"),
    [("ode", 10, "--steps"), ("dpm", 0, "steps"), ("pc", 10, "2 dimensions")],
)
def test_what_a_method_cannot_do(cli, trained, tmp_path, method, steps, said):
    out = tmp_path / "x.npy"
    result = cli("sample", trained, "--method", method, "--steps", steps, "--out", out)
    assert result.code == 2
    assert said in result.err
    assert not out.exists()


def test_the_seed_decides_the_samples(cli, trained, tmp_path):
    drawn = {}
    for name, n, seed in (("a", 4, 0), ("b", 6, 0), ("c", 4, 1)):
        out = tmp_path / f"{name}.npy"
        assert cli("sample", trained, "-n", n, "--seed", seed, "--out", out).code == 0
        drawn[name] = np.load(out)
    np.testing.assert_array_equal(drawn["a"], drawn["b"][:4])
    assert not np.allclose(drawn["a"], drawn["c"])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".npz"])
def test_fit_takes_every_kind_of_file(cli, trained, rows, tiny, tmp_path, suffix):
    path, run = tmp_path / f"table{suffix}", tmp_path / "run"
    if suffix == ".parquet":
        pl.DataFrame({"length": rows[:, 0], "weight": rows[:, 1]}).write_parquet(path)
    elif suffix == ".npy":
        np.save(path, rows)
    else:
        np.savez(path, rows)
    assert cli("fit", path, *tiny, "--steps", 40, "--out", run).code == 0
    # The same rows in the same order: the same run, whatever the file.
    weights = "model.safetensors"
    assert (run / weights).read_bytes() == (trained / weights).read_bytes()


def test_a_published_split_is_kept(cli, rows, tiny, tmp_path):
    path, run = tmp_path / "split.npz", tmp_path / "run"
    np.savez(path, x_train=rows[:180], x_val=rows[180:195], x_test=rows[195:])
    assert cli("fit", path, *tiny, "--steps", 20, "--out", run).code == 0
    assert json.loads((run / "config.json").read_text())["data"]["n_train"] == 180
    for split, n in (("train", 180), ("validation", 15), ("test", 5)):
        summary = json.loads(cli("nll", run, path, "--split", split, "--json").out)
        assert summary["n"] == n, split


def test_training_can_start_from_a_trained_run(cli, trained, table, tiny, tmp_path):
    run = tmp_path / "run"
    options = (*tiny, "--init-from", trained, "--learning-rate", 1e-9, "--steps", 1)
    assert cli("fit", table, *options, "--out", run).code == 0
    before, after = (
        json.loads(cli("nll", folder, table, "--json").out)["nats_mean"]
        for folder in (trained, run)
    )
    assert after == pytest.approx(before, abs=1e-3)


def test_the_estimator_loads_a_run(cli, trained, table, rows, tmp_path):
    from scoreode import ScoreODE

    out = tmp_path / "rows.csv"
    assert cli("nll", trained, table, "--out", out).code == 0
    loaded = ScoreODE.load(trained)
    assert loaded.feature_names_in_.tolist() == ["length", "weight"]
    frame = pl.DataFrame(rows, ["length", "weight"]).to_pandas()
    np.testing.assert_array_equal(loaded.score_samples(frame), pl.read_csv(out)["nats"])


def test_a_run_can_be_moved(cli, trained, table, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(trained, moved)
    one, other = (json.loads(cli("nll", run, table, "--json").out) for run in (trained, moved))
    assert one["nats_mean"] == other["nats_mean"]


@pytest.mark.slow
def test_reproduce_writes_a_summary_and_a_figure(cli, tmp_path, monkeypatch):
    from dataclasses import replace

    from scoreode.network import MLP

    checkerboard = importlib.import_module("scoreode.reproduce.checkerboard")

    # The recipe's own size takes minutes; what is tested is what is left behind.
    whole = paper.checkerboard
    small = lambda order, quick: replace(  # noqa: E731
        whole(order, quick=quick), steps=4, batch_size=16, network=MLP(width=8, depth=1)
    )
    monkeypatch.setattr(checkerboard, "ORDERS", (1, 2))
    monkeypatch.setattr(paper, "checkerboard", small)
    monkeypatch.setattr(checkerboard, "_TEST_ROWS", {True: 100, False: 100})
    monkeypatch.setattr(checkerboard, "_GRID", {True: 10, False: 10})
    out = tmp_path / "figure"
    result = cli("reproduce", "checkerboard", "--quick", "--out", out)
    assert result.code == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["entropy"] == pytest.approx(np.log(32))
    assert set(summary["orders"]) == {"1", "2"}
    for row in summary["orders"].values():
        assert row["kl"] == pytest.approx(row["nll"] - summary["entropy"])
        assert row["unconverged"] == 0
    assert (out / "densities.png").read_bytes().startswith(b"\x89PNG")
    assert str(out / "densities.png") in result.out
    command = RunFolder.existing(out / "order-2").command
    assert command == "scoreode reproduce checkerboard --seed 0 --quick"
    assert (out / "order-2" / "model.safetensors").is_file()
