"""A lake in a bucket of a local S3 server, beside one in a folder that was told the same."""

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from moto.core import set_initial_no_auth_action_count
from moto.server import ThreadedMotoServer
from polars.testing import assert_frame_equal
from s3fs import S3FileSystem
from typer.testing import CliRunner

from pipelines import bucket, cli, lake, warehouse
from pipelines.book import Book
from pipelines.errors import BookError
from pipelines.orchestration import assets
from pipelines.published import publishing
from tests import small_world
from tests.test_cases import land, with_base_reference

URL = "s3://books/small/lake"
SECRET = "wJalrXUtnFEMI"
FIRST = datetime(2026, 5, 20, 7, tzinfo=UTC)
LOADED = FIRST + timedelta(hours=1)
MARTS = ("dim_meters", "fct_energy_balance", "fct_supply_capacity")
"""They read meters, prices, telemetry, grid events and reference data."""


@pytest.fixture(scope="module")
def storage() -> Iterator[None]:
    """A server with a bucket, as the environment tells of one."""
    with pytest.MonkeyPatch.context() as patch:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in {
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "WATTBOOK_LAKE": URL,
        }.items():
            patch.setenv(name, value)
        # Polars then finds what it needs by itself, as where boto3 is not installed.
        pl.Config.set_default_credential_provider(None)
        region = {"LocationConstraint": "eu-central-1"}
        S3FileSystem().call_s3("create_bucket", Bucket="books", CreateBucketConfiguration=region)
        yield
        pl.Config.set_default_credential_provider("auto")
        server.stop()


def written(book: Book) -> None:
    """Files in landing: the small world, telemetry, a job and an event."""
    small_world.write(book.data_dir)
    land(book, "dcgm-frozen-counter", "prometheus")
    land(book, "slurm-requeued-job", "sacct")
    land(book, "openadr-default-period", "openadr")
    for file in book.landing.rglob("*"):
        os.utime(file, (FIRST.timestamp(),) * 2)


def corrected(book: Book) -> None:
    """A price list says something else of the same hours, another file was wrong altogether."""
    prices = book.landing / "prices_csv" / "ercot_base.csv"
    prices.write_text(prices.read_text().replace(",50,N", ",70,N"))
    os.utime(prices, (LOADED.timestamp(),) * 2)
    lake.load(book, now=LOADED + timedelta(days=1))
    lake.withdraw(book, ["nem12/cedar_base.csv"], now=LOADED + timedelta(days=2))


def built(book: Book) -> None:
    """Roll up telemetry, build some marts and publish these."""
    with warehouse.whole_lake(book):
        todo = warehouse.plan(book)
        warehouse.roll_up(todo)
    models = [f"+{name}" for name in MARTS]
    told = ["--vars", json.dumps(todo.dbt_vars)]
    answer = warehouse.invoke_dbt(book, todo.warehouse, ["run", "--select", *models, *told])
    assert answer.success, answer.exception
    manifest = json.loads(warehouse.manifest_path(book).read_text())
    manifest["nodes"] = {
        key: node
        for key, node in manifest["nodes"].items()
        if node["schema"] != "marts" or node["name"] in MARTS
    }
    warehouse.manifest_path(book).write_text(json.dumps(manifest))
    publishing.publish(book)


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory: pytest.TempPathFactory) -> Book:
    book = with_base_reference(tmp_path_factory.mktemp("folder"))
    written(book)
    lake.load(book, now=LOADED)
    corrected(book)
    return book


@pytest.fixture(scope="module")
def in_bucket(storage: None, in_folder: Book, tmp_path_factory: pytest.TempPathFactory) -> Book:
    book = Book(tmp_path_factory.mktemp("bucket") / "data", URL)
    shutil.copytree(in_folder.reference, book.data_dir / "reference")
    written(book)
    lake.load(book, now=LOADED)
    corrected(book)
    return book


def rows(folder: bucket.Place) -> dict[str, pl.DataFrame]:
    return {name: pl.read_parquet(str(folder / name)) for name in lake.listing(folder)}


def assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    assert list(found) == list(expected)
    for name, frame in expected.items():
        assert_frame_equal(found[name], frame, check_row_order=False)


def test_the_lake_is_in_the_bucket_alone_and_what_it_is_in_a_folder(in_folder, in_bucket):
    assert not (in_bucket.data_dir / "lake").exists()
    assert lake.listing(in_bucket.lake) == lake.listing(in_folder.lake)
    assert_same(rows(in_bucket.lake), rows(in_folder.lake))
    assert set(lake.read_load_records(in_bucket)["status"]) == {"loaded", "withdrawn"}


def test_what_is_published_from_it_is_what_is_published_from_a_folder(in_folder, in_bucket):
    for book in (in_folder, in_bucket):
        built(book)
    for team in ("energy", "finance", "operations"):
        published = [rows(book.published / team) for book in (in_folder, in_bucket)]
        assert_same(published[1], published[0])
    months = [rows for name, rows in published[0].items() if "fct_energy_balance/" in name]
    assert sum(map(len, months)) > 500
    assert set(published[0]["raw_loads.parquet"]["status"]) == {"loaded", "withdrawn"}
    assert publishing.is_current(in_bucket)


def test_a_book_as_of_an_instant_has_roll_ups_of_its_own_beside_the_bucket(in_bucket):
    before = lake.listing(in_bucket.lake)
    todo = warehouse.plan(in_bucket, as_of=FIRST - timedelta(days=1))
    warehouse.roll_up(todo)
    assert todo.dbt_vars["lake_dir"] == URL
    assert todo.dbt_vars["roll_up_dir"] == str(todo.book.data_dir / "roll_ups")
    # Nothing had landed by then.
    assert [len(frame) for frame in rows(todo.book.roll_ups).values()] == [0] * 6
    assert lake.listing(in_bucket.lake) == before


def test_what_dagster_shows_of_it_is_what_it_shows_of_a_folder(in_folder, in_bucket):
    for table in ("raw_loads", "gpu_samples", "market_prices"):
        shown = [assets.table_metadata(book, table) for book in (in_folder, in_bucket)]
        assert shown[0] == shown[1]
    assert assets.reference_metadata(in_bucket, "sites") == {"dagster/row_count": 3}


def test_whether_it_is_whole_takes_one_request(in_bucket, monkeypatch):
    records = lake.read_load_records(in_bucket)
    asked = []
    client = type(in_bucket.lake.fs.s3)
    ask = client._make_api_call

    async def noted(storage: object, operation: str, told: dict) -> object:
        asked.append(operation)
        return await ask(storage, operation, told)

    monkeypatch.setattr(client, "_make_api_call", noted)
    assert lake.damage(in_bucket, records) == []
    assert asked == ["ListObjectsV2"]


def test_an_object_that_is_gone_is_told_and_read_again(in_bucket):
    name = next(name for name in lake.listing(in_bucket.lake) if name.startswith("gpu_samples/2"))
    before = pl.read_parquet(str(in_bucket.lake / name))
    (in_bucket.lake / name).unlink()
    with pytest.raises(warehouse.WarehouseError, match=f"lake/{name}: found no file, expected"):
        warehouse.build(in_bucket)
    again = LOADED + timedelta(days=3)
    assert lake.load(in_bucket, now=again).loaded == 1
    found = pl.concat(rows(in_bucket.lake / "gpu_samples").values())
    assert_frame_equal(found, before)


def test_an_object_with_other_bytes_is_set_aside_until_its_file_is_there_again(in_bucket):
    name = next(
        name
        for name in lake.listing(in_bucket.lake)
        if name.startswith("grid_events/") and "schema" not in name
    )
    file = in_bucket.lake / name
    file.write_bytes(b"PAR1")
    away = in_bucket.landing.rename(in_bucket.data_dir / "away")
    again = LOADED + timedelta(days=4)
    assert len(lake.load(in_bucket, now=again).lost) == 1
    assert not file.exists()
    assert file.with_suffix(".damaged").read_bytes() == b"PAR1"
    away.rename(in_bucket.landing)
    assert lake.load(in_bucket, now=again).loaded == 1
    assert lake.damage(in_bucket, lake.read_load_records(in_bucket)) == []


@pytest.fixture
def afresh(in_bucket: Book, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """To change what is told of the storage; it is reached anew, and given up soon."""

    def forget() -> None:
        bucket.place.cache_clear()
        S3FileSystem.clear_instance_cache()

    forget()
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield monkeypatch
    forget()


def refused(book: Book) -> str:
    """What the command line says where it cannot load."""
    result = CliRunner().invoke(cli.app, ["--data-dir", str(book.data_dir), "load"])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert SECRET not in result.output
    assert "Traceback" not in result.output
    return result.stderr


def test_storage_that_does_not_answer_is_told_with_its_address(in_bucket, afresh):
    afresh.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert refused(in_bucket).splitlines()[-1] == (
        f"error: WATTBOOK_LAKE={URL}: no object storage answers (Could not connect to the endpoint"
        ' URL: "http://127.0.0.1:1/books?list-type=2&prefix=small%2Flake&max-keys=1&encoding-type='
        'url"): start it, or set AWS_ENDPOINT_URL to where it is; what was written before stays'
    )


def test_a_bucket_that_is_not_there_is_told(in_bucket, afresh):
    afresh.setenv("WATTBOOK_LAKE", "s3://other/lake")
    assert refused(in_bucket).splitlines()[-1] == (
        "error: WATTBOOK_LAKE=s3://other/lake: found no such bucket (The specified bucket does not"
        " exist): make it, or set the variable to the one there is"
    )


def test_credentials_that_are_refused_or_missing_are_told(in_bucket, afresh):
    @set_initial_no_auth_action_count(0)
    def said() -> str:
        return refused(in_bucket)

    assert said().splitlines()[-1] == (
        f"error: WATTBOOK_LAKE={URL}: the object storage refuses (The AWS Access Key Id you"
        " provided does not exist in our records.): set AWS_ACCESS_KEY_ID and"
        " AWS_SECRET_ACCESS_KEY to credentials that may list, read, write and delete there"
    )
    S3FileSystem.clear_instance_cache()
    bucket.place.cache_clear()
    afresh.delenv("AWS_ACCESS_KEY_ID")
    assert refused(in_bucket).splitlines()[-1] == (
        f"error: WATTBOOK_LAKE={URL}: found no credentials (Unable to locate credentials): set"
        " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )


def test_without_s3fs_it_is_said_how_to_get_it(afresh):
    afresh.setattr(bucket, "find_spec", lambda _: None)
    with pytest.raises(BookError, match=r"pip install 'wattbook\[s3\]'"):
        bucket.place("s3://books/lake")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/srv/lake", "/srv/lake"),
        ("gs://books/lake", "gs://books/lake"),
        ("s3://", "s3://"),
        (f"s3://AKIATEST:{SECRET}@books/lake", "s3://…@books/lake"),
    ],
)
def test_a_place_that_is_no_bucket_is_told_without_secrets(url, shown):
    with pytest.raises(BookError) as error:
        bucket.place(url)
    assert error.value.causes == [f"WATTBOOK_LAKE: found {shown!r}, expected s3://bucket/prefix"]


def test_aws_region_is_heeded(afresh):
    afresh.delenv("AWS_DEFAULT_REGION")
    afresh.setenv("AWS_REGION", "eu-north-1")
    assert bucket.place("s3://books/lake/").path == "books/lake"
    assert os.environ["AWS_DEFAULT_REGION"] == "eu-north-1"


def test_a_spark_cluster_is_refused_for_it(in_bucket, monkeypatch):
    monkeypatch.setenv("WATTBOOK_SPARK_MASTER", "local[2]")
    with pytest.raises(lake.LakeError, match=r"local\[2\]: found the lake in a bucket \(s3://"):
        warehouse.roll_up(warehouse.plan(in_bucket))
