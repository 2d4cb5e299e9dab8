"""`export`: the model alone, byte for byte, and as good as the run for all that reads it."""

import json
import shutil

import numpy as np
import pytest

from scoreode import ScoreODE
from scoreode.adapters import loader, stablehlo
from scoreode.flow import GridLikelihood


def test_the_model_is_the_run_s(cli, trained, table, rows, tmp_path):
    model = tmp_path / "model"
    found = json.loads(cli("export", trained, "--out", model, "--json").out)
    names = {path.name for path in model.iterdir()}
    assert names == {"config.json", "model.safetensors", "rows.safetensors", "summary.json"}
    assert found["bytes"] == sum(path.stat().st_size for path in model.iterdir())
    for name in names:
        assert (model / name).read_bytes() == (trained / name).read_bytes()

    moved = shutil.move(model, tmp_path / "moved")
    shutil.move(trained, tmp_path / "away")
    try:
        exported = ScoreODE.load(moved)
        nll = json.loads(cli("nll", moved, table, "--json").out)
    finally:
        shutil.move(tmp_path / "away", trained)
    whole = ScoreODE.load(trained)
    np.testing.assert_array_equal(
        exported.fitted_.log_likelihood(rows).nats, whole.fitted_.log_likelihood(rows).nats
    )
    assert nll["n"] == len(rows)


def test_what_is_no_model_is_not_copied(cli, trained, stopped, tmp_path, contents):
    out = tmp_path / "model"
    for run in (stopped, tmp_path / "none"):
        result = cli("export", run, "--out", out)
        assert result.code == 2
        assert str(run) in result.err
        assert not out.exists()
    damaged = shutil.copytree(trained, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"")
    assert cli("export", damaged, "--out", out).code == 2
    assert not out.exists()
    before = contents(trained)
    result = cli("export", trained, "--out", trained)
    assert result.code == 2
    assert "choose another --out" in result.err
    assert contents(trained) == before


@pytest.mark.parametrize("place", ["/proc/nowhere/model", "{file}/model"])
def test_where_nothing_can_be_written(cli, trained, tmp_path, place):
    (tmp_path / "file").write_text("text")
    out = place.format(file=tmp_path / "file")
    result = cli("export", trained, "--out", out)
    assert result.code == 1
    assert f"cannot create {out}" in result.err


@pytest.mark.slow
def test_compiled_functions(cli, trained, rows, tmp_path):
    pytest.importorskip("flatbuffers")
    out = tmp_path / "deployed"
    found = json.loads(cli("export", trained, "--out", out, "--stablehlo", "--json").out)
    assert found["functions"].keys() == {"log_density", "score", "sample"}
    assert found["error"]["largest_difference_in_nats"] < 0.01
    model, native = loader.load(out), ScoreODE.load(trained).fitted_
    nats = native.whole.log_likelihood(rows, how=GridLikelihood()).nats
    np.testing.assert_allclose(model.log_density(rows), nats, atol=1e-4)
    assert np.shape(model.log_density(rows[0])) == (1,)


def test_compiled_functions_need_what_jax_writes_them_with(cli, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(stablehlo, "find_spec", lambda _: None)
    out = tmp_path / "deployed"
    result = cli("export", trained, "--out", out, "--stablehlo")
    assert result.code == 2
    assert "flatbuffers is not installed" in result.err
    assert not out.exists()
