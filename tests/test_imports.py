"""Every module can be the first that is imported, and the package itself costs nothing."""

import pkgutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

import scoreode

# What the lock does not have; `make test-torch` has it.
OPTIONAL = {f"scoreode.adapters.{name}": "torch" for name in ("torch", "torch_support")}
MODULES = sorted(module.name for module in pkgutil.walk_packages(scoreode.__path__, "scoreode."))
# `python -m scoreode` runs on import, by design.
IMPORTABLE = [
    name
    for name in MODULES
    if not name.endswith("__main__") and (name not in OPTIONAL or find_spec(OPTIONAL[name]))
]


def run(script, *args):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *args], capture_output=True, text=True
    )


@pytest.mark.slow
def test_every_module_imports_on_its_own():
    # Other packages stay loaded; ours is forgotten before each, so that each is the first, and one
    # pass in any order is enough.
    script = """
import importlib, sys, traceback
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.split(".")[0] == "scoreode"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except Exception:
        sys.exit(f"{name}: {traceback.format_exc()}")
print(len(sys.argv[1:]))
"""
    done = run(script, *IMPORTABLE)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(IMPORTABLE) > 30


@pytest.mark.parametrize("module", ["scoreode", "scoreode.cli"])
def test_neither_the_package_nor_its_help_waits_for_jax(module):
    script = """
import importlib, sys
before = set(sys.modules)
importlib.import_module(sys.argv[1])
loaded = {name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
print(*loaded)
"""
    done = run(script, module)
    assert done.returncode == 0, done.stderr
    heavy = {"jax", "numpy", "scipy", "sklearn", "equinox", "diffrax", "matplotlib", "polars"}
    loaded = set(done.stdout.split())
    assert "scoreode" in loaded
    assert not loaded & heavy
    if module == "scoreode":
        assert loaded == {"scoreode"}


def test_the_estimator_is_found_by_its_name():
    from scoreode.estimator.score_ode import ScoreODE

    assert scoreode.ScoreODE is ScoreODE
    assert "ScoreODE" in scoreode.__all__
    with pytest.raises(AttributeError, match="no attribute 'ScoreOED'"):
        _ = scoreode.ScoreOED


def test_as_a_module_it_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "scoreode", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "usage: scoreode" in done.stdout


def without(package, *args):
    """The command where a package is not installed."""
    script = """
import sys
sys.modules[sys.argv[1]] = None
from scoreode.__main__ import main
sys.argv[1:] = sys.argv[2:]
sys.exit(main())
"""
    return run(script, package, *args)


@pytest.mark.slow
def test_without_the_extras_the_command_names_them(tmp_path):
    done = without("tyro", "--help")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("scoreode: the command line is an extra: pip install 'scoreode[all]'\n")
    (tmp_path / "x.csv").write_text("a\n1\n2\n")
    done = without("polars", "fit", str(tmp_path / "x.csv"))
    assert done.returncode == 1
    assert done.stderr == "scoreode: polars is not installed: pip install 'scoreode[all]'\n"
