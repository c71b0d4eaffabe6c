"""Metrics of a Prometheus server: a real one pulled, loaded and compared, and what is asked."""

import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines import lake, pulls
from pipelines.book import Book
from tests.pulls import prometheus_server
from tests.pulls.prometheus_server import HOST, POWER, UTILIZATION
from tests.pulls.servers import QUICK, Answer, Asked, declare, landed, serving

REFERENCE = Path(__file__).parents[1] / "cases" / "base" / "reference"
NOW = datetime(2026, 10, 6, 9, 30, 30, tzinfo=UTC)


def source(url: str, **changed: object) -> dict[str, object]:
    return {
        "name": "hall",
        "kind": "prometheus",
        "url": url,
        "metrics": [POWER],
        "first_day": NOW.date(),
        "requests_per_minute": 6000,
    } | changed


def stored(book: Book) -> dict[tuple[str, str, int], float]:
    """Power of the lake: host, board and second of 1970 -> watts, of rows that tell of power."""
    files = sorted((book.lake / "gpu_samples").rglob("*.parquet"))
    rows = pl.concat([pl.read_parquet(file) for file in files], how="diagonal")
    rows = rows.drop_nulls("power_w").sort("load_number")
    seconds = pl.col("sampled_at").dt.epoch("s")
    return {
        (host, gpu, second): power
        for host, gpu, second, power in rows.select(
            "hostname", "gpu_index", seconds, "power_w"
        ).iter_rows()
    }


def test_what_a_real_server_has_is_what_the_lake_has(tmp_path):
    book = Book(tmp_path / "data")
    shutil.copytree(REFERENCE, book.data_dir / "reference")
    with prometheus_server.started(tmp_path) as url:
        now = datetime.now(UTC)
        told = source(url, metrics=[POWER, UTILIZATION], step_s=1, match='job="dcgm"')
        declare(book, told | {"first_day": now.date()})
        [outcome] = pulls.pull(book, now=now)
        samples = {gpu: prometheus_server.raw(url, POWER, gpu) for gpu in ("0", "1")}
    assert outcome.causes == []
    summary = lake.load(book)
    assert (summary.failed, summary.partial) == (0, 0)
    last = int(now.timestamp())
    expected = {}
    for gpu, points in samples.items():
        for second in range(int(points[0][0]) + 1, last + 1):
            latest = [value for at, value in points if at <= second]
            expected[HOST, gpu, second] = latest[-1]
    assert len(expected) >= 4
    found = {(host, str(gpu), second): power for (host, gpu, second), power in stored(book).items()}
    assert found == expected


def test_what_a_real_server_refuses_as_too_much_is_asked_for_in_halves(book, tmp_path):
    with prometheus_server.started(tmp_path, "--query.max-samples=12", samples=12) as url:
        now = datetime.now(UTC)
        declare(book, source(url, step_s=1) | {"first_day": now.date()})
        [outcome] = pulls.pull(book, now=now)
    assert outcome.causes == []
    values = [
        (series["metric"]["gpu"], at)
        for content in landed(book).values()
        for series in json.loads(content)["data"]["result"]
        for at, _ in series["values"]
    ]
    seconds = sorted(at for gpu, at in values if gpu == "0")
    assert len(seconds) >= 8
    assert seconds == [*range(int(seconds[0]), int(seconds[-1]) + 1)]
    assert len(values) == len(set(values))


def test_what_a_real_server_refuses_as_wrong_is_told_in_its_words(book, tmp_path):
    with prometheus_server.started(tmp_path, samples=0) as url:
        declare(book, source(url, match="job=") | {"first_day": datetime.now(UTC).date()})
        [outcome] = pulls.pull(book)
    assert "answered 400, expected 200" in outcome.causes[0]
    assert "parse error" in outcome.causes[0]


@pytest.mark.parametrize(("step_s", "hours"), [(60, 24), (5, 12), (2, 6), (1, 3), (3600, 24)])
def test_no_request_is_of_more_than_11_000_points_or_of_what_is_to_come(book, step_s, hours):
    asked: list[tuple[int, int]] = []

    def answer(one: Asked) -> Answer:
        asked.append((int(one.query["start"]), int(one.query["end"])))
        assert one.query["step"] == str(step_s)
        assert one.query["query"] == POWER
        return Answer(b'{"status":"success","data":{"resultType":"matrix","result":[]}}')

    with serving(answer) as server:
        declare(book, source(server.url, step_s=step_s))
        [outcome] = pulls.pull(book, now=NOW, limits=QUICK)
    assert outcome.causes == []
    midnight = int(datetime(2026, 10, 6, tzinfo=UTC).timestamp())
    now = int(NOW.timestamp())
    assert [start for start, _ in asked] == [*range(midnight, now + 1, hours * 3600)]
    assert all((end - start) // step_s + 1 <= 11_000 for start, end in asked)
    # Each point is asked for once, up to now.
    points = [at for start, end in asked for at in range(start, end + 1, step_s)]
    assert points == [*range(midnight, now + 1, step_s)]


def test_an_answer_that_is_too_large_is_asked_for_in_halves(book):
    def answer(one: Asked) -> Answer:
        points = (int(one.query["end"]) - int(one.query["start"])) // 3600 + 1
        filler = b" " * (2_000 * points)
        return Answer(b'{"status":"success",' + filler + b'"data":{}}')

    with serving(answer) as server:
        declare(book, source(server.url, step_s=3600))
        [outcome] = pulls.pull(book, now=NOW, limits=QUICK)
    assert outcome.causes == []
    spans = [name.rpartition("/")[2].removesuffix(".json") for name in landed(book)]
    # 10,000 bytes hold four hours, and the last half day has four up to 09:30.
    assert spans == [
        "20261006T000000Z_20261006T030000Z",
        "20261006T030000Z_20261006T060000Z",
        "20261006T060000Z_20261006T120000Z",
    ]


def test_a_user_with_a_password_signs_in(book):
    with serving(lambda _: Answer(b"{}")) as server:
        declare(book, source(server.url, user="reader", password_variable="PASSWORD"))
        pulls.pull(book, now=NOW, limits=QUICK, environment={"PASSWORD": "word"})
    assert server.asked[0].headers["Authorization"] == "Basic cmVhZGVyOndvcmQ="


def test_a_day_that_was_pulled_in_part_is_replaced_by_more_of_it(book):
    def answer(one: Asked) -> Answer:
        return Answer(b'{"until":' + one.query["end"].encode() + b"}")

    with serving(answer) as server:
        declare(book, source(server.url))
        for now in (NOW, NOW + timedelta(hours=2), NOW + timedelta(hours=30)):
            pulls.pull(book, now=now, limits=QUICK)
    until = [json.loads(content)["until"] for content in landed(book).values()]
    assert [datetime.fromtimestamp(one, UTC).strftime("%d %H:%M") for one in until] == [
        "06 23:59",
        "07 15:30",
    ]


def test_the_rate_that_is_declared_is_kept(book):
    with serving(lambda _: Answer(b"{}")) as server:
        declare(book, source(server.url, step_s=1, requests_per_minute=300))
        started = time.monotonic()
        pulls.pull(book, now=NOW, limits=QUICK)
    assert len(server.asked) == 4
    assert time.monotonic() - started >= 3 * 0.2
