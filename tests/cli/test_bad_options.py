"""Options that cannot be used: exit status 2, the option and its remedy named, nothing touched."""

import json
import re

import pytest

from scoreode.errors import InputError
from scoreode.model.config import PROCESSES, STANDARDISATIONS


@pytest.fixture
def refused(cli, table, tiny, tmp_path):
    """Fits the table with options, and returns the message that names what is wrong."""

    def refused(*options):
        run = tmp_path / "run"
        result = cli("fit", table, *tiny, "--out", run, *options)
        assert result.code == 2, result.said
        assert not run.exists()
        return result.said

    return refused


BAD_VALUES = {
    "--steps": ["0", "-1"],
    "--seconds": ["0", "-2", "nan", "inf"],
    "--batch-size": ["0", "-1"],
    "--learning-rate": ["0", "-0.001", "nan", "inf"],
    "--width": ["0", "-1"],
    "--depth": ["0", "-1"],
    "--n-probes": ["0", "-1"],
    "--lambda1": ["-1", "nan"],
    "--lambda1-trace": ["-1", "nan"],
    "--lambda2": ["-1", "nan"],
    "--validation-fraction": ["-0.1", "1", "1.5", "nan"],
    "--patience": ["0", "-1"],
    "--seed": ["-1", str(2**32), str(2**63)],
}


@pytest.mark.parametrize(
    ("option", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values]
)
def test_a_number_out_of_range(refused, option, value):
    message = refused("--steps" if option != "--seconds" else "--order", "1", option, value)
    # However it is spelt: as an option or as the parameter behind it.
    assert re.search(option.strip("-").replace("-", "[-_ ]"), message), message
    assert value.lstrip("-") in message, message


@pytest.mark.parametrize(
    ("option", "value"),
    [("--order", "4"), ("--order", "third"), ("--steps", "many"), ("--validation", "both")],
)
def test_a_value_of_the_wrong_kind(refused, option, value):
    message = refused(option, value)
    assert option in message
    assert value in message


@pytest.mark.parametrize(
    ("option", "value", "nearest"),
    [
        ("--process", "vee", "ve"),
        ("--process", "strait", "straight"),
        ("--standardise", "whitened", "whiten"),
    ],
)
def test_an_unknown_name(refused, option, value, nearest):
    message = refused(option, value)
    assert f"unknown {option[2:6]}" in message
    assert f"{value!r}: did you mean {nearest!r}?" in message


def test_a_name_like_no_other_lists_them_all(refused):
    message = refused("--process", "xyz")
    for name in PROCESSES:
        assert name in message


def test_steps_and_seconds_together(refused):
    assert "give --steps or --seconds, not both" in refused("--steps", 5, "--seconds", 5)


def test_unknown_option_names_the_nearest(refused):
    message = refused("--batchsize", 5)
    assert "--batchsize" in message
    assert "--batch-size" in message


def test_unknown_command_lists_the_known(cli):
    result = cli("train", "checkerboard")
    assert result.code == 2
    assert "train" in result.said
    assert "fit" in result.said


def test_no_command_and_no_data(cli):
    assert cli().code == 2
    result = cli("fit")
    assert result.code == 2
    assert "give DATA to start a run, or --resume RUN to continue one" in result.err
    result = cli("nll", "run")
    assert result.code == 2
    assert "DATA" in result.said
    result = cli("sample", "run")
    assert result.code == 2
    assert "--out" in result.said


@pytest.mark.slow
def test_data_and_resume_together(cli, trained, table, contents):
    before = contents(trained)
    result = cli("fit", table, "--resume", trained)
    assert result.code == 2
    assert "--resume" in result.err
    assert contents(trained) == before


@pytest.mark.parametrize(("option", "value"), [("--steps", 99), ("--order", 2), ("--out", "new")])
def test_resume_does_not_ignore_options(cli, trained, contents, option, value):
    before = contents(trained)
    result = cli("fit", "--resume", trained, option, value)
    assert result.code == 2
    assert option in result.err
    assert contents(trained) == before


def test_resume_of_what_is_no_run(cli, tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        result = cli("fit", "--resume", path)
        assert result.code == 2
        assert f"{path}: not a run (it has no config.json)" in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["nll", "sample"])
def test_a_folder_that_is_no_run(cli, tmp_path, table, command):
    rest = (table,) if command == "nll" else ("--out", tmp_path / "x.npy")
    result = cli(command, tmp_path / "nowhere", *rest)
    assert result.code == 2
    assert "nowhere: not a run" in result.err


def test_the_output_folder_exists(cli, trained, table, tiny, contents):
    before = contents(trained)
    result = cli("fit", table, *tiny, "--steps", 2, "--out", trained)
    assert result.code == 2
    assert f"{trained} exists: choose another --out" in result.err
    assert f"--resume {trained}" in result.err
    assert contents(trained) == before


def test_the_output_folder_holds_something_else(cli, table, tiny, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("chapter one")
    (tmp_path / "file").write_text("chapter two")
    for name in ("notes", "file"):
        result = cli("fit", table, *tiny, "--steps", 2, "--out", tmp_path / name)
        assert result.code == 2
        assert f"{tmp_path / name} exists: choose another --out" in result.err
        assert "--resume" not in result.err, "there is no run to continue"
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "chapter one"
    assert (tmp_path / "file").read_text() == "chapter two"


@pytest.mark.parametrize("n", ["0", "-5", "some"])
def test_how_many_samples(cli, trained, tmp_path, n):
    result = cli("sample", trained, "-n", n, "--out", tmp_path / "x.npy")
    assert result.code == 2
    assert n in result.said
    assert "-n" in result.said
    assert not (tmp_path / "x.npy").exists()


def test_a_negative_seed(cli, trained, table, tmp_path):
    for command in (
        ("nll", trained, table),
        ("sample", trained, "--out", tmp_path / "x.npy"),
        ("reproduce", "checkerboard", "--quick"),
    ):
        result = cli(*command, "--seed", -1)
        assert result.code == 2, command
        assert "seed" in result.said


@pytest.mark.parametrize("command", ["nll", "sample"])
def test_an_output_of_unknown_kind(cli, trained, table, tmp_path, command):
    rest = (table,) if command == "nll" else ()
    result = cli(command, trained, *rest, "--out", tmp_path / "x.xlsx")
    assert result.code == 2
    assert "x.xlsx: unknown kind of file; use .csv, .parquet, .npy, .npz" in result.err


def test_the_data_are_not_overwritten_by_their_densities(cli, trained, table, tmp_path):
    data = tmp_path / "data.csv"
    data.write_text(table.read_text())
    result = cli("nll", trained, data, "--out", data)
    assert result.code == 2
    assert "data.csv" in result.err
    assert "--out" in result.err
    assert data.read_text() == table.read_text()


@pytest.mark.slow
def test_start_from_a_run_with_another_model(cli, trained, table, tiny, tmp_path):
    run = tmp_path / "run"
    result = cli("fit", table, *tiny, "--steps", 2, "--init-from", tmp_path / "none", "--out", run)
    assert result.code == 2
    assert "none: not a run" in result.err
    result = cli("fit", "mixture", "--steps", 2, "--init-from", trained, "--out", run)
    assert result.code == 2
    assert "trained on 2 (length, weight)" in result.err
    config = json.loads((trained / "config.json").read_text())["run"]
    other = next(name for name in STANDARDISATIONS if name != config["standardise"])
    for option, value in (("--process", "vp"), ("--width", 8), ("--standardise", other)):
        result = cli(
            "fit", table, "--steps", 2, "--init-from", trained, option, value, "--out", run
        )
        assert result.code == 2, option
        assert option in result.err
        assert "--init-from" in result.err
    assert not run.exists()


def test_unknown_recipe(cli, tmp_path):
    result = cli("reproduce", "chequerboard", "--out", tmp_path / "run")
    assert result.code == 2
    assert "unknown recipe 'chequerboard': did you mean 'checkerboard'?" in result.err
    assert not (tmp_path / "run").exists()


def test_debug_shows_where(cli, tmp_path):
    with pytest.raises(InputError, match="not a run"):
        cli("nll", tmp_path / "none", "x.csv", "--debug")


@pytest.mark.parametrize(
    ("option", "value"), [("--order", 1), ("--process", "ve"), ("--validation", "bound")]
)
@pytest.mark.parametrize("form", ["{} {}", "{}={}"])
def test_an_option_of_a_resumed_run_counts_even_at_its_default(cli, trained, option, value, form):
    default = 3 if option == "--order" else value
    result = cli("fit", "--resume", trained, *form.format(option, default).split())
    assert result.code == 2
    assert f"leave out {option}" in result.err


def test_an_option_of_a_resumed_run_counts_in_a_file(cli, trained, tmp_path):
    (tmp_path / "options.toml").write_text("order = 3\n")
    result = cli("fit", "--resume", trained, "--config", tmp_path / "options.toml")
    assert result.code == 2
    assert "leave out --order" in result.err


@pytest.mark.slow
def test_a_default_that_is_asked_for_contradicts_another_model(cli, table, tiny, tmp_path):
    run = tmp_path / "run"
    assert cli("fit", table, *tiny, "--process", "vp", "--steps", 2, "--out", run).code == 0
    result = cli("fit", table, "--init-from", run, "--process", "ve", "--out", tmp_path / "new")
    assert result.code == 2
    assert "--process ve: --init-from keeps the model" in result.err
    assert cli("fit", table, "--init-from", run, "--steps", 2, "--out", tmp_path / "new").code == 0
