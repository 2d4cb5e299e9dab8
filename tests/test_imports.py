"""Every module can be the first that is imported, and the package itself costs nothing."""

import pkgutil
import subprocess
import sys

import pytest

import scoreode

MODULES = sorted(module.name for module in pkgutil.walk_packages(scoreode.__path__, "scoreode."))
# `python -m scoreode` runs on import, by design.
IMPORTABLE = [name for name in MODULES if not name.endswith("__main__")]


def run(script, *args):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *args], capture_output=True, text=True
    )


def test_every_module_imports_on_its_own():
    # Other packages stay loaded; ours is forgotten before each, so that each is the first.
    script = """
import importlib, random, sys, traceback
names = sys.argv[1:]
orders = [random.Random(seed).sample(names, len(names)) for seed in (0, 1)]
for name in sum(orders, []):
    for loaded in [m for m in sys.modules if m.split(".")[0] == "scoreode"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except Exception:
        sys.exit(f"{name}: {traceback.format_exc()}")
print(len(names))
"""
    done = run(script, *IMPORTABLE)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(IMPORTABLE) > 30


def test_the_package_imports_nothing_before_it_is_asked():
    script = """
import sys
before = set(sys.modules)
import scoreode
heavy = {name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
sys.exit(0 if heavy <= {"scoreode"} else str(heavy))
"""
    done = run(script)
    assert done.returncode == 0, done.stderr


def test_the_estimator_is_found_by_its_name():
    from scoreode.estimator import ScoreODE

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
