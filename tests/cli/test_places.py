"""Where a run finds its data again: from any directory, after a move, and what is said if not."""

import json
import shutil

import pytest


@pytest.fixture
def project(cli, table, tiny, tmp_path, monkeypatch):
    """A directory with data.csv, and a run that was begun there by that name."""
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(table, project / "data.csv")
    monkeypatch.chdir(project)
    result = cli("fit", "data.csv", *tiny, "--steps", 5, "--out", "run")
    assert result.code == 0, result.err
    return project


@pytest.mark.slow
def test_from_any_directory(cli, project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scoreode.evaluate.verify.checks", lambda *_: {})
    run = "project/run"
    for command in (
        ("fit", "--resume", run),
        ("report", run, "--rows", 8, "--samples", 8, "--json"),
        ("verify", run, "-n", 8),
        ("compare", run, run + "/../run"),
    ):
        result = cli(*command)
        assert result.code == 0, result.err
    data = json.loads((project / "run" / "config.json").read_text())["data"]
    assert (data["name"], data["path"]) == ("data.csv", str(project / "data.csv"))
    assert "trained on whole" not in (project / "run" / "report.html").read_text()


def test_a_project_that_moved(cli, project, tmp_path, monkeypatch):
    moved = project.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(moved)
    assert cli("fit", "--resume", "run").code == 0
    data = json.loads((moved / "run" / "config.json").read_text())["data"]
    assert data["path"] == str(moved / "data.csv"), "found from now on, too"


def test_data_that_are_gone(cli, project, tmp_path, monkeypatch):
    (project / "data.csv").rename(tmp_path / "other.csv")
    monkeypatch.chdir(tmp_path)
    for command in (("fit", "--resume"), ("verify",)):
        result = cli(*command, project / "run")
        assert result.code == 2
        assert f"no such file at {project}/data.csv nor at {tmp_path}/data.csv" in result.err


def test_other_data_in_their_place(cli, project, tmp_path, monkeypatch):
    (tmp_path / "data.csv").write_text("length,weight\n1,2\n3,5\n2,4\n")
    monkeypatch.chdir(tmp_path)
    assert cli("fit", "--resume", project / "run").code == 0, "the name counts less than the place"
    (project / "data.csv").unlink()
    result = cli("fit", "--resume", project / "run")
    assert result.code == 2
    assert "data.csv has changed since the run began" in result.err


def test_a_run_from_before_places_were_kept(cli, project, tmp_path, monkeypatch):
    file = project / "run" / "config.json"
    config = json.loads(file.read_text())
    del config["data"]["path"]
    file.write_text(json.dumps(config))
    assert cli("nll", "run", "data.csv").code == 0
    monkeypatch.chdir(tmp_path)
    result = cli("fit", "--resume", project / "run")
    assert result.code == 2
    assert f"data.csv: no such file at {tmp_path}/data.csv; restore it" in result.err
    monkeypatch.chdir(project)
    assert cli("fit", "--resume", "run").code == 0


@pytest.mark.usefixtures("project")
def test_a_run_is_measured_on_rows_that_it_held_out(cli, monkeypatch):
    seen = []
    monkeypatch.setattr("scoreode.evaluate.verify.checks", lambda _, x, *__: seen.append(x) or {})
    assert cli("verify", "run", "--json").code == 0
    assert len(seen[0]) == 20, "a tenth of 200"
