"""The roll-ups on a Spark cluster: a master and two workers of this machine, against DuckDB's."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from random import Random

import ibis.expr.types as ir
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipelines.book import Book
from pipelines.lake import LakeError, rollup, spark
from tests.lake.test_rollup import (
    DAY,
    KWH,
    MIDNIGHT,
    at,
    gpu,
    load,
    new_book,
    samples_in_files,
)

# Little is compiled of what runs so shortly.
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
DEFAULTS = f"""
spark.driver.bindAddress 127.0.0.1
spark.driver.extraJavaOptions {JAVA}
spark.driver.host 127.0.0.1
spark.executor.extraJavaOptions {JAVA}
spark.executor.memory 512m
spark.sql.codegen.wholeStage false
spark.sql.adaptive.coalescePartitions.enabled false
spark.sql.shuffle.partitions 2
spark.ui.enabled false
"""
LOGGING = """
rootLogger.level = off
"""
pytestmark = pytest.mark.xdist_group("spark")


@dataclass
class Cluster:
    master: str
    page: str
    workers: list[subprocess.Popen]

    def alive_workers(self) -> int:
        try:
            with urllib.request.urlopen(f"{self.page}/json/") as answer:
                return json.load(answer)["aliveworkers"]
        except OSError:
            return 0

    def await_workers(self, count: int) -> None:
        until = time.monotonic() + 120
        while self.alive_workers() != count:
            assert time.monotonic() < until
            time.sleep(0.2)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def kill(process: subprocess.Popen) -> None:
    """With what it started, as when the machine is lost."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("spark")
    (folder / "spark-defaults.conf").write_text(DEFAULTS)
    (folder / "log4j2.properties").write_text(LOGGING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_CONF_DIR", str(folder))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        yield folder


@pytest.fixture(scope="module")
def cluster(settings: Path) -> Iterator[Cluster]:
    spec = find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    home = Path(spec.origin).parent
    environment = {
        **os.environ,
        "SPARK_HOME": str(home),
        "SPARK_DAEMON_JAVA_OPTS": JAVA,
        "SPARK_DAEMON_MEMORY": "128m",
        "SPARK_WORKER_DIR": str(settings / "work"),
    }
    processes: list[subprocess.Popen] = []

    def start(name: str, *arguments: str) -> subprocess.Popen:
        command = ["bash", f"{home}/bin/spark-class", f"org.apache.spark.deploy.{name}"]
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", *arguments],
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        processes.append(process)
        return process

    port, page = free_port(), free_port()
    master = f"spark://127.0.0.1:{port}"
    try:
        start("master.Master", "--port", str(port), "--webui-port", str(page))
        room = ("--cores", "1", "--memory", "512m", "--webui-port", "0")
        workers = [start("worker.Worker", *room, master) for _ in range(2)]
        cluster = Cluster(master, f"http://127.0.0.1:{page}", workers)
        cluster.await_workers(2)
        yield cluster
    finally:
        for process in processes:
            if process.poll() is None:
                kill(process)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """A day of boards of all kinds, whose samples come in order and not, again, late, reset."""
    book = new_book(tmp_path_factory.mktemp("book"))
    for name, rows in samples_in_files(Random(3)).items():
        load(book, rows, load_id=name)
    late = [
        gpu(at(hour, minute), gpu_index="3", power_w=500, energy_counter_millijoules=KWH * hour)
        for hour in range(22, 27)
        for minute in range(0, 60, 10)
    ]
    load(book, late, load_id="d", known_at=MIDNIGHT + timedelta(days=2))
    nodes = [
        {"sampled_at": at(hour, minute), "hostname": host, "power_w": 1200.5 + minute}
        for hour in (0, 23, 24)
        for minute in range(0, 60, 4)
        for host in ("jwb0001", "jwb0002")
    ]
    load(book, nodes, table="node_power_samples")
    load(book, nodes[5:9], table="node_power_samples", load_id="b")
    return book


def copy_of(book: Book, folder: Path) -> Book:
    shutil.copytree(book.data_dir, folder, dirs_exist_ok=True)
    return Book(folder)


def roll_ups(book: Book) -> dict[str, pl.DataFrame]:
    return {
        table: pl.read_parquet(book.lake / table / f"{DAY}.parquet") for table in rollup.ROLL_UPS
    }


def assert_same(book: Book, expected: dict[str, pl.DataFrame]) -> None:
    for name, frame in roll_ups(book).items():
        assert frame.height > 0, name
        assert_frame_equal(frame, expected[name], rel_tol=0, abs_tol=2e-9)


@pytest.mark.slow
def test_a_cluster_gives_the_rows_of_duckdb_though_a_worker_is_lost_in_mid_run(
    cluster: Cluster, lake: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    book = copy_of(lake, tmp_path)
    rollup.roll_up(lake, [DAY])
    victim, _ = cluster.workers
    totals = rollup._gpu_totals

    def with_half_of_the_parts_lost(parts: ir.Table) -> ir.Table:
        if victim.poll() is None:
            kill(victim)
        return totals(parts)

    monkeypatch.setattr(rollup, "_gpu_totals", with_half_of_the_parts_lost)
    said: list[str] = []
    spark.roll_up(book, [DAY, DAY], cluster.master, progress=said.append)
    cluster.await_workers(1)
    assert said == ["telemetry of 2026-11-01"]
    assert_same(book, roll_ups(lake))
    written = [path.name for path in (book.lake / "gpu_intervals").iterdir()]
    assert sorted(written) == ["2026-11-01.parquet", "schema.parquet"]


@pytest.mark.slow
def test_rows_not_known_then_and_of_loads_out_of_the_book_are_left_out(
    settings: Path, lake: Book, tmp_path: Path
):
    rollup.roll_up(lake, [DAY])
    everything = roll_ups(lake)
    book = copy_of(lake, tmp_path)
    options = {"as_of": MIDNIGHT + timedelta(days=1), "left_out": ["b" * 16]}
    rollup.roll_up(lake, [DAY], **options)
    expected = roll_ups(lake)
    spark.roll_up(book, [DAY], "local[2]", **options)
    assert [name for name in everything if everything[name].equals(expected[name])] == []
    assert_same(book, expected)


@pytest.mark.slow
def test_a_damaged_file_stops_the_day_and_leaves_its_earlier_roll_up(
    settings: Path, lake: Book, tmp_path: Path
):
    book = copy_of(lake, tmp_path)
    rollup.roll_up(book, [DAY])
    before = roll_ups(book)
    damaged = book.lake / "gpu_samples" / str(DAY) / f"{'a' * 16}.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(LakeError) as raised:
        spark.roll_up(book, [DAY], "local[2]")
    (cause,) = raised.value.causes
    assert re.fullmatch(
        r"WATTBOOK_SPARK_MASTER=local\[2\]: telemetry could not be rolled up there \(.*reading file"
        rf" \S*/gpu_samples/{DAY}/{damaged.name}.*\): see Spark's own log; if a file of the lake is"
        r" damaged, `wattbook load --checksums` reads its rows again; without \S+ this machine"
        r" rolls up",
        cause,
    )
    assert_same(book, before)


@pytest.mark.slow
def test_a_cluster_whose_workers_have_no_room_is_not_waited_for(
    cluster: Cluster, lake: Book, monkeypatch: pytest.MonkeyPatch
):
    for worker in cluster.workers:
        if worker.poll() is None:
            kill(worker)
    cluster.await_workers(0)
    monkeypatch.setattr(spark, "WORKERS_WITHIN_S", 1)
    with pytest.raises(LakeError, match=r"no worker came within 1 s: start one, see on the master"):
        spark.roll_up(lake, [DAY], cluster.master)


def test_a_master_that_does_not_answer_is_said_with_where_and_what_to_do(lake: Book):
    rollup.roll_up(lake, [DAY])
    before = roll_ups(lake)
    master = f"spark://127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    with pytest.raises(LakeError) as raised:
        spark.roll_up(lake, [DAY], master)
    assert raised.value.causes == [
        f"WATTBOOK_SPARK_MASTER={master}: no Spark master answers there ([Errno 111] Connection"
        " refused): start it, set the variable to the URL that its page shows, or unset it to roll"
        " up on this machine"
    ]
    assert_same(lake, before)


def test_without_pyspark_it_is_said_how_to_get_it(lake: Book, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)
    with pytest.raises(LakeError) as raised:
        spark.roll_up(lake, [DAY], "local[2]")
    assert raised.value.causes == [
        "WATTBOOK_SPARK_MASTER=local[2]: found no pyspark here: pip install 'wattbook[spark]'"
    ]


def test_without_java_it_is_said_what_is_missing(lake: Book, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(LakeError, match="found no Java here, neither on PATH nor by JAVA_HOME"):
        spark.roll_up(lake, [DAY], "local[2]")
