"""How many rows a second do one and two workers score, and what memory does each take?

    python benchmarks/scale.py --rows 1000000 --out scale.json
    python benchmarks/scale.py --rows 20000 --engines shards dask ray --repeats 1

Rows lie in a folder of .parquet parts, in `--columns` columns; the model is one of default size for
such a table, hardly trained, as its speed does not depend on what it has learnt (or `--run`, with
`--data`). k workers have k cores, whichever engine starts them: processes of
`scoreode nll --shard`, Dask's, or Ray's. What is compiled is kept on disk and met in a first round
over one part, which is not counted. Reported: the median over repeats of rows a second and of its
ratio to one worker's in the same repeat; the largest memory that a worker took; seconds from the
start of the processes to the last row. The machine has to be idle otherwise.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

ENGINES = ("shards", "dask", "ray")
SHARD = """
import json, resource, sys
from scoreode.cli import main
code = main(sys.argv[1:])
print(json.dumps({"kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
sys.exit(code)
"""
PARTS = 16


def make(folder: Path, rows: int, columns: int) -> tuple[Path, Path]:
    """A run and a folder of parts of a correlated law with a long tail."""
    import polars as pl

    from scoreode import ScoreODE

    rng = np.random.default_rng(0)
    mix = rng.normal(size=(columns, columns)) / columns**0.5

    def draw(n: int) -> np.ndarray:
        x = rng.normal(size=(n, columns)) @ mix
        return np.c_[np.exp(x[:, :1]), x[:, 1:]]

    names, data = [f"x{i}" for i in range(columns)], folder / "parts"
    data.mkdir()
    for i, size in enumerate(np.diff(np.linspace(0, rows, PARTS + 1).astype(int))):
        pl.DataFrame(draw(size), schema=names).write_parquet(data / f"part-{i:02d}.parquet")
    ScoreODE(order=1, steps=200, standardise="power").fit(draw(20_000)).save(folder / "run")
    return folder / "run", data


def shards(run: Path, data: Path, k: int) -> tuple[float, float]:
    """Seconds from when all read their rows, and the largest KiB of a process."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["nll", run, data, "--out", Path(folder) / "rows.parquet", "--json", "--quiet"]
        command = [sys.executable, "-c", SHARD, *map(str, words), "--shard"]
        pipe = {"stdout": subprocess.PIPE, "text": True}
        processes = [subprocess.Popen([*command, f"{i}/{k}"], **pipe) for i in range(k)]
        said = [process.communicate()[0].splitlines() for process in processes]
        assert not any(process.returncode for process in processes)
    lines = [tuple(map(json.loads, lines)) for lines in said]
    return max(line["seconds"] for line, _ in lines), max(line["kib"] for _, line in lines)


def peak(*_: Any) -> int:
    """The largest KiB of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def dask(run: Path, data: Path, k: int) -> tuple[float, float]:
    """Seconds for all partitions with workers that have the model, and the KiB of a worker."""
    import dask.dataframe as dd
    from distributed import Client, LocalCluster

    from scoreode.adapters.engines import Scorer

    score = Scorer(run)
    options = {"n_workers": k, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        frame = dd.read_parquet(data)
        client.run(score, frame.head(64, npartitions=-1))
        started = time.perf_counter()
        frame.map_partitions(score, meta=score.meta(frame))["nats"].mean().compute()
        return time.perf_counter() - started, max(client.run(peak).values())


def ray(run: Path, data: Path, k: int) -> tuple[float, float]:
    """Seconds for all batches, the start of actors included, and the KiB of an actor."""
    import ray

    from scoreode.adapters.engines import Scorer

    class WithPeak(Scorer):
        def __call__(self, table: Any) -> Any:
            found = super().__call__(table)
            return {"nats": found["nats"], "kib": np.full(len(found["nats"]), peak())}

    ray.init(num_cpus=k, include_dashboard=False, log_to_driver=False)
    try:
        rows = ray.data.read_parquet(str(data))
        pool = ray.data.ActorPoolStrategy(size=k)
        made = {"fn_constructor_args": (str(run),), "compute": pool, "batch_size": 8192}
        found = rows.map_batches(WithPeak, batch_format="numpy", **made)
        started = time.perf_counter()  # with the start of the actors, of which Ray has no other
        kib = found.max("kib")
        return time.perf_counter() - started, float(kib)
    finally:
        ray.shutdown()


def measure(engine: str, run: Path, data: Path, k: int) -> dict[str, float]:
    """One engine with k workers in a process of its own, and so on k cores."""
    words = ["--one", engine, "--run", run, "--data", data, "--workers", k]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True
    )
    seconds, kib = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": seconds, "kib": kib, "all_seconds": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES[:2])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--one", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.one:
        k = args.workers[0]
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:k])
        engine = {"shards": shards, "dask": dask, "ray": ray}[args.one]
        print(json.dumps(engine(args.run, args.data, k)))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/cache"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        if args.run is None:
            args.run, args.data = make(Path(folder), args.rows, args.columns)
        result = {engine: compare(engine, args) for engine in args.engines}
    about = {
        "rows": args.rows,
        "columns": args.columns,
        "repeats": args.repeats,
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "jax": metadata.version("jax"),
    }
    if args.out:
        args.out.write_text(json.dumps(about | {"engines": result}, indent=1) + "\n")


def compare(engine: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Every number of workers in turn, so that a drifting machine slows all of them."""
    part = min(args.data.glob("*.parquet"))
    measure(engine, args.run, part, max(args.workers))  # compiles
    rounds = [
        {k: measure(engine, args.run, args.data, k) for k in args.workers}
        for _ in range(args.repeats)
    ]
    first, found = args.workers[0], {}
    for k in args.workers:
        rates = [args.rows / times[k]["seconds"] for times in rounds]
        ratios = [times[first]["seconds"] / times[k]["seconds"] for times in rounds]
        found[str(k)] = {
            "rows_per_second": statistics.median(rates),
            "ratio": statistics.median(ratios),
            "mib_per_worker": max(times[k]["kib"] for times in rounds) / 1024,
            "all_seconds": statistics.median(times[k]["all_seconds"] for times in rounds),
        }
        row = found[str(k)]
        print(
            f"{engine}, {k} workers: {row['rows_per_second']:.0f} rows/s, {row['ratio']:.2f}x,"
            f" {row['mib_per_worker']:.0f} MiB a worker, {row['all_seconds']:.0f} s in all"
        )
    return found


if __name__ == "__main__":
    main()
