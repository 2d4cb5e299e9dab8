"""`--help` as committed, how soon it is there, and what completes the command in a shell."""

import os
import shutil
import subprocess
import sys

import help_texts
import pytest


def test_help_is_as_committed(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    shown = help_texts.shown()
    committed = {path.name: path.read_text() for path in help_texts.FOLDER.iterdir()}
    assert shown == committed, "meant? then: python tests/help_texts.py"


def test_help_is_free_of_internals():
    for path in help_texts.FOLDER.iterdir():
        for ugly in ("None", "(default: )", "Args:", "False", "\x1b"):
            assert ugly not in path.read_text(), path.name


def test_help_is_immediate():
    command = [sys.executable, "-m", "scoreode", "fit", "--help"]
    subprocess.run(command, capture_output=True, check=True)
    before = os.times()
    subprocess.run(command, capture_output=True, check=True)
    after = os.times()
    spent = sum(after[2:4]) - sum(before[2:4])
    assert spent < 1, f"{spent:.2f} s of processor time"


COMPLETED = [
    (["fi"], ["fit"]),
    (["comp"], ["compare", "completion"]),
    (["fit", "--ord"], ["--order"]),
    (["fit", "--order", ""], ["1", "2", "3", "auto"]),
    (["sample", "run", "--method", "a"], ["ancestral"]),
    (["nll", "run", "--js"], ["--json"]),
    (["reproduce", "mog", "--pre"], ["--preset"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "expected"), COMPLETED, ids=" ".join)
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(cli, tmp_path, words, expected):
    result = cli("completion", "bash")
    assert result.code == 0
    script = tmp_path / "scoreode"
    script.write_text(result.out)
    line = " ".join(f"'{word}'" for word in ["scoreode", *words])
    done = subprocess.run(
        ["bash", "-c", f"""
            source {script}
            COMP_WORDS=({line}); COMP_CWORD={len(words)}
            $(complete -p scoreode | sed 's/.*-F \\([^ ]*\\).*/\\1/')
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert sorted(word.strip() for word in done.stdout.splitlines()) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_their_script(cli, tmp_path, shell):
    result = cli("completion", shell)
    assert result.code == 0
    assert "compdef" in result.out if shell == "zsh" else "complete " in result.out
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(result.out)
        subprocess.run([shell, "-n", script], check=True)


def test_completion_of_an_unknown_shell(cli):
    assert cli("completion", "dos").code == 2
