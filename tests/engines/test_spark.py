"""Spark with two worker processes on this machine."""

import os
import shutil
import sys

import pytest

from scoreode.adapters import engines

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
sql = pytest.importorskip("pyspark.sql")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java", allow_module_level=True)


@pytest.fixture(scope="module")
def spark():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        builder = sql.SparkSession.builder.master("local[2]")
        options = {
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": "1g",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.execution.arrow.maxRecordsPerBatch": "64",
        }
        for name, value in options.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        yield session
        session.stop()


@pytest.fixture
def table(spark, rows):
    return spark.createDataFrame(rows).repartition(5, "id")


def test_map_in_pandas(score, table, same):
    found = table.mapInPandas(score, score.schema(table.schema))
    assert found.columns == [*table.columns, *score.appended]
    same(found.toPandas())


def test_predict_batch_udf(score, table, same):
    from pyspark.ml.functions import predict_batch_udf

    predict = predict_batch_udf(
        score.make_predict_fn, return_type=score.return_type, batch_size=100
    )
    found = table.withColumn("p", predict(*score.columns)).select("*", "p.*").drop("p")
    assert found.columns == [*table.columns, *score.appended]
    same(found.toPandas().astype({"converged": bool}))


def test_empty_partitions(spark, score, rows, same):
    table = spark.createDataFrame(rows).repartition(6, "city")  # three of them have rows
    same(table.mapInPandas(score, score.schema(table.schema)).toPandas())
    none = table.filter("id < 0")
    assert none.mapInPandas(score, score.schema(none.schema)).toPandas().empty


def test_fewer_rows_than_workers(spark, score, rows, same):
    table = spark.createDataFrame(rows[:1]).repartition(4)
    same(table.mapInPandas(score, score.schema(table.schema)).toPandas(), slice(1))


def test_models_are_read_once_a_worker(score, table):
    def with_reads(frames):
        for frame in score(frames):
            reads = engines.read.cache_info().misses
            yield frame[["id"]].assign(worker=os.getpid(), reads=reads)

    found = table.mapInPandas(with_reads, "id long, worker long, reads long").toPandas()
    assert set(found["reads"]) == {1}
    assert 1 <= found["worker"].nunique() <= 2
    assert len(found) == 400
