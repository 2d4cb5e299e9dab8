"""A run whose loss is no longer finite goes back, says so, and can be killed at that, too."""

import json

import jax.numpy as jnp
import pytest

from scoreode import progress
from scoreode.train import checkpoint, loop, saved

pytestmark = pytest.mark.usefixtures("often", "diverging")
NOTE = "the loss was no longer finite: training went back to step 20, and continues with 1/2"


@pytest.fixture
def diverging(monkeypatch):
    """From step 20 on, the loss is no number unless the rate is halved."""
    advance = loop.advance

    def diverging(state, key, n, at, increment, scale, *rest):
        after, terms, finite = advance(state, key, n, at, increment, scale, *rest)
        if int(state.step) >= 20 and float(scale) == 1:
            return after, terms | {"loss": jnp.nan}, jnp.asarray(False)
        return after, terms, finite

    monkeypatch.setattr(loop, "advance", diverging)


@pytest.fixture
def recovered(cli, long, tmp_path):
    run = tmp_path / "whole"
    result = cli(*long, "--out", run)
    assert result.code == 0, result.err
    assert result.err.count(NOTE) == 1
    return run


@pytest.mark.slow
def test_it_goes_back_and_says_so(cli, long, recovered, whole, tmp_path, metrics):
    lines = metrics(recovered)
    assert [line["step"] for line in lines] == [10, 20, 30, 40, 50, 60]
    assert [line["halvings"] for line in lines] == [0, 0, 1, 1, 1, 1]
    calm = metrics(whole)
    assert lines[:2] == calm[:2]
    assert all(one["loss"] != other["loss"] for one, other in zip(lines[2:], calm[2:], strict=True))
    assert json.loads((recovered / "summary.json").read_text())["recoveries"] == [20]
    assert json.loads((whole / "summary.json").read_text())["recoveries"] == []
    quiet = cli(*long, "--out", tmp_path / "quiet", "--quiet", "--json")
    assert NOTE not in quiet.err
    assert json.loads(quiet.out)["recoveries"] == [20]


@pytest.mark.slow
@pytest.mark.parametrize("report", [1, 2, 3, 5])
def test_interrupted_before_and_after_it_ends_the_same(
    cli, long, recovered, same, on_call, report, tmp_path
):
    def interrupt(*_):
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        on_call(patch, progress.PlainLines, "__call__", report, interrupt)
        assert cli(*long, "--out", run).code == 130
    resumed = cli("fit", "--resume", run)
    assert resumed.code == 0, resumed.err
    same(run, recovered)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["recoveries"] == [20]


@pytest.mark.slow
def test_a_checkpoint_that_knows_of_no_recoveries_is_taken_up(
    cli, long, recovered, same, on_call, tmp_path
):
    """Those of earlier versions do not hold them."""
    save, run = checkpoint.Checkpoints.save, tmp_path / "run"

    def without(self, step, tree, record):
        del record["recoveries"]
        save(self, step, tree, record)

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.Checkpoints, "save", without)
        on_call(patch, progress.PlainLines, "__call__", 2, interrupt)
        assert cli(*long, "--out", run).code == 130
    assert saved.at_checkpoint(run).recoveries == ()
    assert cli("fit", "--resume", run).code == 0
    same(run, recovered)


def test_a_run_that_fails_keeps_its_checkpoint(cli, long, tmp_path, monkeypatch):
    advance, run = loop.advance, tmp_path / "run"

    def lost(state, *rest):
        after, terms, finite = advance(state, *rest)
        return after, terms, finite & (state.step < 30)

    monkeypatch.setattr(loop, "advance", lost)
    result = cli(*long, "--out", run)
    assert result.code == 1
    assert "at step 40, also from step 30 with 1/8 of the learning rate" in result.err
    assert "Traceback" not in result.err
    assert saved.at_checkpoint(run).steps == 30
