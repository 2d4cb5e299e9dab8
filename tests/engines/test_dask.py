"""Dask with two worker processes on this machine: parts, empty ones, and one whose worker dies."""

import os
import signal

import pytest

from scoreode.adapters import engines

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Two processes of one thread, each a worker."""
    folder = tmp_path_factory.mktemp("dask")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(**options, local_directory=str(folder)) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def parts_of(rows):
    """The first n rows in so many partitions."""

    def parts_of(parts, n=None):
        return dd.from_pandas(rows[:n], npartitions=parts, sort=False)

    return parts_of


def scored(score, parts):
    return parts.map_partitions(score, meta=score.meta(parts))


def test_parts_are_those_of_one_process_and_models_are_read_once(client, score, parts_of, same):
    found = scored(score, parts_of(7))
    assert found.npartitions == 7
    computed = found.compute()
    assert computed.dtypes.to_list() == found.dtypes.to_list()
    same(computed)
    reads = client.run(lambda: engines.read.cache_info().misses)
    assert len(reads) == 2
    assert set(reads.values()) == {1}


@pytest.mark.usefixtures("client")
def test_empty_parts(score, parts_of, same):
    """A filter leaves some partitions without a row, and all of them."""
    parts = parts_of(6)
    same(scored(score, parts[parts["id"] >= 200]).compute(), slice(200, None))
    none = scored(score, parts[parts["id"] < 0]).compute()
    assert (len(none), none.columns[-1]) == (0, "converged")


@pytest.mark.usefixtures("client")
def test_fewer_rows_than_workers(score, parts_of, same):
    same(scored(score, parts_of(4, n=1)).compute(), slice(1))


def test_a_part_whose_worker_is_killed_is_made_again(client, score, parts_of, same, tmp_path):
    """Once, at the third of four parts."""
    mark = tmp_path / "killed"

    def fatal(part):
        if len(part) and part["id"].iloc[0] == 200 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return score(part)

    parts = parts_of(4)
    before = set(client.run(os.getpid).values())
    same(parts.map_partitions(fatal, meta=score.meta(parts)).compute())
    assert mark.exists()
    client.wait_for_workers(2)
    assert len(before - set(client.run(os.getpid).values())) == 1
