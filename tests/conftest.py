"""What every test runs under: compiled code kept on disk, annotations checked, dtypes as asked."""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Most of a test's time is compilation, twice as much with these emitters, and more by a fifth where
# a program is split for several threads; what is compiled runs for milliseconds. It is kept, also
# for the processes that tests start.
FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
# Both workers keep a core busy: threads that share small matrices would wait for one another. The
# workers inherit this, before they import NumPy.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
for name, value in {
    "jax_compilation_cache_dir": str(Path(__file__).parent.parent / ".cache" / "jax"),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)

MAPS = 15_000  # of a worker; above, it forgets what it compiled. Its memory grows with them

install_import_hook("scoreode", "typecheck.checked")

from catalogue import PROCESSES  # noqa: E402 (the package, only now)

# Deadlines measure compilation; fixtures here are values, equal for every example.
settings.register_profile(
    "scoreode", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("scoreode")


def pytest_configure(config: pytest.Config) -> None:
    # Entries are not written atomically: a neighbour's half-written one is compiled anew.
    config.addinivalue_line(
        "filterwarnings", "ignore:Error (reading|writing) persistent compilation cache"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Few tests compute for long enough that optimised code pays: those that are marked."""
    optimised = item.get_closest_marker("optimised") is not None
    jax.config.update("jax_disable_most_optimizations", not optimised)


@pytest.fixture(scope="module", autouse=True)
def _forget_what_was_compiled() -> Iterator[None]:
    """Every executable takes memory maps, of which Linux grants a process 65530, and no more.

    What the next module compiles too is kept as long as there are maps for it: one takes up to
    8000.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAPS:
        jax.clear_caches()


@pytest.fixture
def x64() -> Iterator[None]:
    """Float64 throughout the test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[jnp.dtype]:
    """The test runs in float32 and again in float64."""
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


@pytest.fixture
def strict() -> Iterator[None]:
    """Operands have to agree in rank and dtype.

    Not for every test: toys and bijections broadcast over rows and the oracle over its components,
    toys scale integer draws, and Optax's Adam raises a float to an integer power.
    """
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(params=PROCESSES)
def process(request: pytest.FixtureRequest):
    """Every process of the catalogue."""
    return PROCESSES[request.param]()
