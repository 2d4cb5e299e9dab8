"""Options in a file: the file printed is the file read, and the command line goes first."""

import json
import string
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreode.cli import COMMANDS, config, fit
from scoreode.cli.options import FitOptions
from scoreode.model.config import DEQUANTISATIONS, PROCESSES, STANDARDISATIONS, to_json

positive = st.floats(1e-9, 1e9)
whole = st.integers(1, 4096)
texts = st.text(st.characters(exclude_categories=["Cs"]))
OPTIONS = {
    "order": st.sampled_from(["auto", 1, 2, 3]),
    "process": st.sampled_from(list(PROCESSES)),
    "init_from": st.none() | texts.map(Path),
    "micro_batches": whole,
    "standardise": st.none() | st.sampled_from(list(STANDARDISATIONS)),
    "validation": st.sampled_from(["bound", "exact"]),
    "validation_fraction": st.floats(0, 0.99),
    "flip": st.booleans(),
    "dequantise": st.sampled_from(list(DEQUANTISATIONS)),
    "bin_width": st.lists(positive, max_size=3).map(tuple),
    "data_dir": st.none() | texts.map(Path),
    "seed": st.integers(0, 2**31),
}
KINDS = {int: whole, int | None: st.none() | whole, float | None: st.none() | positive}
# Built in the tests: checking annotations draws random numbers, which strategies must not.
chosen = st.fixed_dictionaries(
    {
        name: OPTIONS[name] if name in OPTIONS else KINDS.get(kind, st.from_type(kind))
        for name, kind in get_type_hints(FitOptions).items()
    }
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "options.toml"


@settings(max_examples=50)
@given(chosen, texts)
def test_what_is_written_is_read(file, chosen, data):
    options = FitOptions(**chosen)
    file.write_text(config.to_toml({"data": data} | asdict(options)), encoding="utf-8")
    found = config.read(file, fit)
    assert found.pop("data") == data
    assert FitOptions(**found) == options


@settings(max_examples=30)
@given(chosen, st.integers(1, 40), st.booleans())
def test_resolved_options_mean_the_same_run(chosen, d, timed):
    # One budget, and what is for images alone left out.
    budget = {"steps": None} if timed else {"seconds": None}
    options = FitOptions(**chosen | budget | {"flip": False})
    run = options.run(1000, d, None)
    resolved = options.resolve(run)
    assert to_json(resolved.run(1000, d, None)) == to_json(run)
    # Chosen from now on, not by the data; but the rows decide how long a cycle is.
    assert to_json(resolved.run(10, d, None)) | {"cycle": run.cycle} == to_json(run)


@pytest.fixture
def written(tmp_path):
    def written(text):
        path = tmp_path / "options.toml"
        path.write_text(text)
        return path

    return written


def test_the_printed_options_are_the_options(cli, table, tiny, tmp_path, written):
    arguments = (table, *tiny, "--steps", 40, "--out", tmp_path / "run", "--lambda1", 0.5)
    printed = cli("fit", *arguments, "--print-config")
    assert printed.code == 0, printed.err
    assert printed.err == ""
    assert not (tmp_path / "run").exists(), "nothing is trained"
    found = tomllib.loads(printed.out)
    assert found["data"] == str(table)
    assert (found["width"], found["lambda1"]) == (16, 0.5)
    assert found["standardise"] in ("scale", "whiten", "power"), "chosen by the data"
    assert found["learning-rate"] == 1e-3, "chosen by the data"
    again = cli("fit", "--config", written(printed.out), "--print-config")
    assert again.out == printed.out


def test_the_trace_alone(cli, table, tiny, tmp_path):
    """Order 2 by J2,tr without J2, from the first step on."""
    out = tmp_path / "run"
    trace = ("--order", 2, "--lambda1", 0, "--lambda1-trace", 0.5)
    result = cli("fit", table, *tiny, *trace, "--steps", 2, "--out", out)
    assert result.code == 0, result.err
    run = json.loads((out / "config.json").read_text())["run"]
    found = [run["objective"][name]["value"] for name in ("lambda1", "lambda1_trace")]
    assert (found, run["auto_order"]) == ([0, 0.5], False)


def test_the_command_line_goes_before_the_file(cli, table, written):
    path = written(f'data = "{table}"\norder = 1\nbatch_size = 32\nflip = false\nseed = 5\n')
    out = cli("fit", f"--config={path}", "--order", 3, "--seed", 0, "--print-config").out
    found = tomllib.loads(out)
    # The defaults themselves, asked for against the file.
    assert (found["order"], found["seed"], found["batch-size"]) == (3, 0, 32)


@pytest.mark.slow
def test_a_run_from_a_file_is_the_run(cli, trained, table, tmp_path, written, same):
    text = "order = 1\nwidth = 16\ndepth = 1\nbatch-size = 32\nsteps = 40\n"
    run = tmp_path / "run"
    assert cli("fit", table, "--config", written(text), "--out", run).code == 0
    same(run, trained)


def test_every_command_takes_a_file(cli, trained, table, written):
    result = cli(
        "nll", trained, "--config", written(f'data = "{table}"\nsplit = "train"\n'), "--json"
    )
    assert result.code == 0, result.err
    assert json.loads(result.out)["n"] == 200
    for name, command in COMMANDS.items():
        if name in ("list", "completion"):
            continue
        result = cli(name, "--config", written("colour = 1"))
        assert (result.code, "unknown option 'colour'" in result.err) == (2, True), name
        assert config.read(written(""), command) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("widht = 3", "unknown option 'widht': did you mean 'width'?"),
        ("config = 'a.toml'", "unknown option 'config'"),
        ("order = 4", "order = 4: choose from auto, 1, 2, 3"),
        ("order = true", "order = True: choose from auto, 1, 2, 3"),
        ("width = 3.5", "width = 3.5: give a whole number"),
        ("width = true", "width = True: give a whole number"),
        ("seconds = 'ten'", "seconds = 'ten': give a number"),
        ("flip = 1", "flip = 1: give true or false"),
        ("process = 1", "process = 1: give a text in quotes"),
        ("bin-width = 1", "bin-width = 1: give a list of values"),
        ("bin-width = ['a']", "give a number"),
        ("width = 3\n[fit]\nsteps = 3", "unknown option 'fit'"),
        ("batch-size = 3\nbatch_size = 3", "batch_size is there twice"),
        ("width = 3\nwidth = 4", "not a TOML file"),
        ("width =", "not a TOML file"),
        ("seconds = 5\nsteps = 5", "not both"),
        ("steps = -5", "steps -5"),
        ("process = 'vee'", "did you mean 've'?"),
    ],
)
def test_a_file_that_cannot_be_used(cli, table, written, tmp_path, text, message):
    result = cli("fit", table, "--config", written(text), "--out", tmp_path / "run")
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_file_that_cannot_be_read(cli, table, tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"process = '\xe9'")
    for name in ("none.toml", ".", "latin.toml"):
        result = cli("fit", table, "--config", tmp_path / name, "--out", tmp_path / "run")
        assert result.code == 2
        assert str(tmp_path / name) in result.err
    assert cli("fit", table, "--config").code == 2


def test_resuming_does_not_ignore_the_file(cli, trained, written):
    result = cli("fit", "--resume", trained, "--config", written("width = 8"))
    assert result.code == 2
    assert "leave out --width" in result.err


def test_names_are_as_on_the_command_line(cli, table, tiny):
    out = cli("fit", table, *tiny, "--print-config").out
    names = [line.partition(" = ")[0] for line in out.splitlines()]
    assert all(set(name) <= {*string.ascii_lowercase, *string.digits, "-"} for name in names)
    shown = cli("fit", "--help").out
    assert all(f"--{name} " in shown for name in names if name != "data")
