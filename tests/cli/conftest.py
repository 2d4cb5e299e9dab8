"""The command as a user calls it, in this process or in one of its own, and small data for it."""

import contextlib
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from environment import ENVIRONMENT, TIMES, TINY

from scoreode import progress
from scoreode.cli import main
from scoreode.train import loop, trainer


@dataclass(frozen=True)
class Result:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that it printed, on one line."""
        return " ".join((self.out + self.err).split())


Command = Callable[..., Result]


def _checked(result: Result) -> Result:
    assert "Traceback" not in result.out + result.err
    return result


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Default folders land in the test's own, and the command's signal handlers do not stay."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", ENVIRONMENT["COLUMNS"])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run_here(*args: object) -> Result:
    """`scoreode ARGS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(arg) for arg in args])
    return _checked(Result(code, out.getvalue(), err.getvalue()))


@pytest.fixture(scope="session")
def cli() -> Command:
    """`scoreode ARGS` in this process."""
    return run_here


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen]:
    """A process of its own: `scoreode ARGS`, after the lines of Python in `before`."""

    def start(*args: object, before: str = "", **options) -> subprocess.Popen:
        script = (
            f"import sys\n{before}\nfrom scoreode.cli import main\nsys.exit(main(sys.argv[1:]))"
        )
        return subprocess.Popen(
            [sys.executable, "-c", script, *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            **options,
        )

    return start


@pytest.fixture(scope="session")
def shell(start: Callable[..., subprocess.Popen]) -> Command:
    """`scoreode ARGS` in a process of its own, to its end."""

    def shell(*args: object, before: str = "", **options) -> Result:
        with start(*args, before=before, **options) as process:
            out, err = process.communicate(timeout=240)
        return _checked(Result(process.returncode, out, err))

    return shell


@pytest.fixture(scope="session")
def on_call() -> Callable[..., None]:
    """Lets something else happen at the count-th call of a function, once."""

    def on_call(patch: pytest.MonkeyPatch, owner: object, name: str, count: int, act) -> None:
        original, calls = getattr(owner, name), []

        def counted(*args, **kwargs):
            calls.append(1)
            return (act if len(calls) == count else original)(*args, **kwargs)

        patch.setattr(owner, name, counted)

    return on_call


@pytest.fixture(scope="session")
def metrics() -> Callable[[Path], list[dict]]:
    """metrics.jsonl of a run without what the clock decides."""

    def metrics(run: Path) -> list[dict]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]

    return metrics


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder, byte for byte."""

    def contents(folder: Path) -> dict[str, bytes]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return contents


@pytest.fixture(scope="session")
def same(metrics: Callable[[Path], list[dict]]) -> Callable[[Path, Path], None]:
    """Asserts that two runs gave the same numbers, to the last bit."""

    def same(run: Path, other: Path) -> None:
        assert metrics(run) == metrics(other)
        weights = "model.safetensors"
        assert (run / weights).read_bytes() == (other / weights).read_bytes()

    return same


@pytest.fixture(scope="session")
def rows() -> np.ndarray:
    """200 rows of two dependent columns in unlike units."""
    x = np.random.default_rng(7).normal(size=(200, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    return x * np.array([1.0, 50.0]) + np.array([0.0, 300.0])


@pytest.fixture(scope="session")
def table(rows: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those rows as a .csv with the columns `length` and `weight`."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    np.savetxt(path, rows, delimiter=",", header="length,weight", comments="")
    return path


@pytest.fixture(scope="session")
def trained(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the table; tests that change it copy it first."""
    run = tmp_path_factory.mktemp("trained") / "run"
    result = run_here("fit", table, *TINY, "--steps", 40, "--out", run)
    assert result.code == 0, result.err
    return run


def _shorten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(loop, "CHUNK", 10)
    patch.setattr(trainer, "SAVE_EVERY", 0.0)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 10 steps with a checkpoint after each: every kind of moment within a second."""
    _shorten(monkeypatch)


@pytest.fixture(scope="session")
def long(table: Path) -> tuple[object, ...]:
    """A run of six such chunks."""
    return ("fit", table, *TINY, "--steps", 60)


@pytest.fixture(scope="session")
def whole(long: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That run from its beginning to its end."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        _shorten(patch)
        result = run_here(*long, "--out", run)
    assert result.code == 0, result.err
    return run


@pytest.fixture(scope="session")
def stopped(
    long: tuple, on_call: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same run, interrupted at step 40: it has the checkpoints 30 and 40."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        _shorten(patch)
        on_call(patch, progress.PlainLines, "__call__", 4, interrupt)
        result = run_here(*long, "--out", run)
    assert result.code == 130, result.err
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"30", "40"}
    return run


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Options for a network that trains in no time."""
    return TINY
