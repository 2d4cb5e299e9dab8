"""No output takes the place of a file that is there, unless `--force` is given."""

import pytest

from scoreode.model.fitted import Fitted

FEW = ("--rows", 8, "--samples", 8)


@pytest.fixture
def outputs(trained, table):
    """Commands that write a file, less its name."""
    return {
        "nll": ("nll", trained, table),
        "sample": ("sample", trained, "-n", 2),
        "report": ("report", trained, *FEW),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "suffix"),
    [("nll", ".csv"), ("nll", ".npz"), ("sample", ".csv"), ("sample", ".png"), ("report", ".html")],
)
def test_what_is_there_stays(cli, outputs, tmp_path, monkeypatch, command, suffix):
    out = tmp_path / f"out{suffix}"
    out.write_text("an hour of work")
    with monkeypatch.context() as patch:  # the question comes before any work
        for name in ("sample", "log_likelihood"):
            patch.setattr(Fitted, name, lambda *_, **__: pytest.fail("work was done"))
        result = cli(*outputs[command], "--out", out)
    assert result.code == 2
    assert f"{out} exists: choose another file, or replace it with --force" in result.err
    assert out.read_text() == "an hour of work"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]

    result = cli(*outputs[command], "--out", out, "--force")
    assert result.code == 0, result.err
    assert out.read_bytes() != b"an hour of work"


def test_samples_do_not_overwrite_the_rows_of_training(cli, table, tiny, tmp_path):
    data = tmp_path / "train.csv"
    data.write_text(table.read_text())
    assert cli("fit", data, *tiny, "--steps", 5, "--out", tmp_path / "run").code == 0
    assert cli("sample", tmp_path / "run", "--out", data).code == 2
    assert data.read_text() == table.read_text()


def test_force_does_not_reach_the_data_that_are_evaluated(cli, trained, table, tmp_path):
    data = tmp_path / "data.csv"
    data.write_text(table.read_text())
    result = cli("nll", trained, data, "--out", data, "--force")
    assert result.code == 2
    assert data.read_text() == table.read_text()


def test_a_page_about_several_runs_is_no_runs_own(cli, trained, tmp_path):
    (tmp_path / "report.html").write_text("about other runs")
    result = cli("report", trained, trained, *FEW)
    assert result.code == 2
    assert "report.html exists" in result.err
    assert (tmp_path / "report.html").read_text() == "about other runs"


def test_a_link_and_a_folder_are_there_too(cli, outputs, tmp_path):
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "nowhere.csv")
    assert cli(*outputs["sample"], "--out", link).code == 2
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    for force in ((), ("--force",)):
        result = cli(*outputs["sample"], "--out", folder, *force)
        assert result.code == 2
        assert "folder.csv: is a folder" in result.err


def test_force_stands_in_no_file_of_options(cli, outputs, tmp_path):
    (tmp_path / "options.toml").write_text("force = true\n")
    result = cli(*outputs["sample"], "--config", "options.toml", "--out", "x.csv")
    assert result.code == 2
    assert "unknown option 'force'" in result.err


@pytest.mark.parametrize("name", ["x" * 250 + ".csv", "none/x.csv"])
def test_a_name_that_cannot_be_is_refused_before_any_work(
    cli, outputs, tmp_path, monkeypatch, name
):
    monkeypatch.setattr(Fitted, "sample", lambda *_, **__: pytest.fail("work was done"))
    result = cli(*outputs["sample"], "--out", tmp_path / name)
    assert result.code == 1
    assert f"cannot write {tmp_path / name}" in result.err
