"""Ray Data with two worker processes on this machine."""

import os
from itertools import pairwise

import pytest

from scoreode.adapters import engines
from scoreode.adapters.engines import Scorer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")


@pytest.fixture(scope="module", autouse=True)
def _ray():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def blocks(rows):
    """The rows in seven blocks, of which some are empty."""
    ends = [0, 0, 3, 100, 100, 250, 399, 400]
    frames = [rows[a:b] for a, b in pairwise(ends)]
    return ray.data.from_pandas(frames)


@pytest.mark.parametrize("batch_format", ["pandas", "numpy"])
def test_blocks_are_those_of_one_process(score, blocks, same, batch_format):
    found = blocks.map_batches(score, batch_format=batch_format, batch_size=64)
    same(found.to_pandas())


def test_models_are_read_once_a_worker(score, blocks, same):
    def with_reads(frame):
        reads = engines.read.cache_info
        return score(frame).assign(worker=os.getpid(), reads=lambda _: reads().misses)

    found = blocks.map_batches(with_reads, batch_format="pandas", batch_size=16).to_pandas()
    assert set(found["reads"]) == {1}
    assert 1 <= found["worker"].nunique() <= 2
    same(found.drop(columns=["worker", "reads"]))


def test_workers_of_a_class(run, blocks, same):
    """As actors, which are made once and stay."""
    options = {"number": "id"}
    made = {"fn_constructor_args": (str(run),), "fn_constructor_kwargs": options}
    pool = ray.data.ActorPoolStrategy(size=2)
    found = blocks.map_batches(Scorer, **made, compute=pool, batch_format="pandas")
    same(found.to_pandas())


def test_fewer_rows_than_workers(score, rows, same):
    found = ray.data.from_pandas(rows[:1]).map_batches(score, batch_format="pandas")
    same(found.to_pandas(), slice(1))
