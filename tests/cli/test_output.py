"""One convention: results on standard output, progress on standard error, and both by choice."""

import json

import pytest

from scoreode import progress
from scoreode.cli import COMMANDS
from scoreode.reproduce import REPRODUCE
from scoreode.reproduce.orders import Reproduced


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "completion"])
def test_every_command_has_them(cli, name):
    shown = cli(name, "--help").out
    shared = ("--json", "--quiet", "--debug", *([] if name == "list" else ["--config"]))
    for option in shared:
        assert f" {option} " in shown


@pytest.mark.slow
def test_fit(cli, table, tiny, tmp_path):
    run = tmp_path / "run"
    loud = cli("fit", table, *tiny, "--steps", 5, "--out", run, "--json")
    found = json.loads(loud.out)
    summary = json.loads((run / "summary.json").read_text())
    assert found == {"run": str(run), "validation": "bound"} | summary
    assert "order 1 100%" in loud.err
    quiet = cli("fit", table, *tiny, "--steps", 5, "--quiet")
    assert quiet.err == ""
    assert "saved to runs/table-1" in quiet.out
    screen = quiet.out.partition("\n\n")[2].splitlines()
    assert screen[0] == "rows            180 to train, 20 to validate"
    assert len(screen) < 24
    assert max(map(len, screen)) < 80
    of = summary["findings"]
    assert of["compared"] == of["validation_rows"] == 20
    assert of["nats"][0] == pytest.approx(-summary["exact_nll"], abs=0.3), "on the same rows"
    gain, stderr = of["over"]["a Gaussian"]
    assert f" {abs(gain):.3f} ± {stderr:.3f} " in quiet.out


def test_quiet_does_not_stay(cli, table, tiny):
    assert cli("fit", table, *tiny, "--steps", 5, "--quiet").err == ""
    assert cli("fit", table, *tiny, "--steps", 5).err != ""


def test_errors_are_not_hushed(cli, tmp_path):
    assert "not a run" in cli("nll", tmp_path, "x.csv", "--quiet", "--json").err


def test_sample(cli, trained, tmp_path):
    out = tmp_path / "x.npy"
    found = json.loads(cli("sample", trained, "-n", 7, "--out", out, "--json").out)
    assert found | {"n": 7, "d": 2, "method": "ode", "out": str(out)} == found
    assert found["seconds"] > 0


def test_list(cli):
    found = json.loads(cli("list", "--json").out)
    assert "checkerboard" in found["data sets"]
    assert "checkerboard" in found["recipes"]
    assert found["processes"] == ["ve", "vp", "subvp", "straight"]


def test_reproduce(cli, tmp_path, monkeypatch):
    def brief(_folder, *, quick, seed):  # constants as they are by default
        assert seed == 0
        progress.note("order 1")
        return Reproduced({"name": "mog", "quick": quick}, "a table")

    monkeypatch.setitem(REPRODUCE, "mog", brief)
    out = tmp_path / "mog"
    shown = cli("reproduce", "mog", "--out", out)
    assert (shown.out, shown.err) == ("a table\n", "order 1\n")
    hushed = cli("reproduce", "mog", "--out", out, "--json", "--quiet")
    assert hushed.err == ""
    assert json.loads(hushed.out) == {"run": str(out), "name": "mog", "quick": False}


def test_an_evaluation_that_goes_on_says_so_unless_quiet(capsys):
    with progress.quiet():
        progress.note("going on")
        with progress.show("order 1") as observe:
            assert isinstance(observe, progress.PlainLines)
    assert capsys.readouterr().err == ""
