"""What tests of the command share: the environment of its processes, options that train fast."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = ("--order", "1", "--width", "16", "--depth", "1", "--batch-size", "32")
SCALED = ("--standardise", "scale")  # no search for powers, which takes long for many columns
TIMES = ("seconds", "steps_per_second")  # what may differ between equal runs

ENVIRONMENT = os.environ | {
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # as in this process: what they compute is compared
    "JAX_PLATFORMS": "cpu",
    "COLUMNS": "200",  # messages are asserted on: no line breaks inside them
}
