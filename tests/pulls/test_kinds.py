"""Every other kind of source: what it is asked for, and that the book can load what has landed."""

import json
import os
import shutil
import stat
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from pipelines import lake, pulls
from pipelines.book import Book
from pipelines.connectors.sacct import FIELDS
from pipelines.errors import BookError
from pipelines.pulls.desk import Limits
from tests import small_world
from tests.pulls.servers import QUICK, Answer, Asked, declare, landed, serving
from tests.real_files import real_file

REFERENCE = Path(__file__).parents[1] / "cases" / "base" / "reference"
NOW = datetime(2026, 5, 6, 9, 30, tzinfo=UTC)
ENVIRONMENT = {"TOKEN": "s3cret"}
ZONE = "10Y1001A1001A82H"


@pytest.fixture
def book(tmp_path: Path) -> Book:
    found = Book(tmp_path / "data")
    shutil.copytree(REFERENCE, found.data_dir / "reference")
    return found


def pull(book: Book, now: datetime = NOW) -> pulls.Outcome:
    [outcome] = pulls.pull(book, environment=ENVIRONMENT, now=now, limits=QUICK)
    return outcome


def loaded(book: Book, table: str, *columns: str) -> list[tuple[object, ...]]:
    """Rows of a raw table after loading; nothing was refused."""
    summary = lake.load(book)
    assert [record.reason for record in summary.records if record.reason] == []
    files = sorted((book.lake / table).rglob("*.parquet"))
    rows = pl.concat([pl.read_parquet(file) for file in files], how="diagonal")
    return rows.sort("load_number", "source_row").select(columns).rows()


def program(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


JOB = {
    "JobID": "7",
    "JobIDRaw": "7",
    "Cluster": "alder",
    "State": "COMPLETED",
    "Submit": "2026-05-05T07:00:00+0000",
    "Start": "2026-05-05T08:00:00+0000",
    "End": "2026-05-05T09:00:00+0000",
    "ElapsedRaw": "3600",
    "NNodes": "1",
    "AllocTRES": "gres/gpu=4,node=1",
    "NodeList": "ald01",
}
LISTING = f"{'|'.join(FIELDS)}\n{'|'.join(JOB.get(name, '') for name in FIELDS)}\n"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first on the PATH, with a sacct that notes how it is called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "listing").write_text(LISTING)
    program(
        folder,
        "sacct",
        f'echo "$TZ $SLURM_TIME_FORMAT $*" >> {folder}/calls; cat {folder}/listing',
    )
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def accounting(**changed: object) -> dict[str, object]:
    return {
        "name": "alder-jobs",
        "kind": "slurm",
        "first_day": date(2026, 5, 5),
        "requests_per_minute": 6000,
    } | changed


def test_sacct_lists_a_day_of_jobs_in_utc_and_the_book_loads_them(book, programs):
    declare(book, accounting())
    assert pull(book) == pulls.Outcome("alder-jobs", landed=2)
    names = [
        "sacct/alder-jobs/20260505T000000Z_20260506T000000Z.txt",
        "sacct/alder-jobs/20260506T000000Z_20260507T000000Z.txt",
    ]
    assert landed(book) == dict.fromkeys(names, LISTING.encode())
    form = f"--format={','.join(FIELDS)}"
    told = "UTC %Y-%m-%dT%H:%M:%S%z --allusers --duplicates --parsable2"
    assert (programs / "calls").read_text().splitlines() == [
        f"{told} --starttime=2026-05-0{day}T00:00:00 --endtime=2026-05-0{day + 1}T00:00:00 {form}"
        for day in (5, 6)
    ]
    rows = loaded(book, "jobs", "job_id", "cluster", "started_at", "ended_at", "gpu_count")
    start = datetime(2026, 5, 5, 8, tzinfo=UTC)
    assert rows == [("7", "alder", start, start + timedelta(hours=1), 4)]


def test_sacct_runs_on_a_login_host_by_ssh_which_asks_for_no_password(book, programs):
    # What ssh does with a command: the shell of the other side reads it as one text.
    program(programs, "ssh", f'echo "$@" > {programs}/ssh-call; shift 6; exec sh -c "$1"')
    declare(book, accounting(host="me@login.example.org", first_day=date(2026, 5, 6)))
    assert pull(book) == pulls.Outcome("alder-jobs", landed=1)
    assert [*landed(book).values()] == [LISTING.encode()]
    call = (programs / "ssh-call").read_text()
    assert call.startswith(
        "-o BatchMode=yes -o ConnectTimeout=30 -- me@login.example.org env TZ=UTC"
    )
    assert (programs / "calls").read_text().startswith("UTC %Y-%m-%dT%H:%M:%S%z --allusers")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"printf '{LISTING}'; echo 'slurm_persist_conn_open: refused' >&2; exit 1",
            "sacct: ended with status 1: slurm_persist_conn_open: refused",
        ),
        ("echo Welcome", "sacct: found b'Welcome' in the first line, expected the names"),
        (f"printf '{LISTING[:-9]}'", "sacct: found a line that is cut off"),
        ("", "sacct: found b'' in the first line"),
        ("sleep 20", "sacct: did not end within 2 s"),
        ("yes", "sacct: did not end within 10000 bytes"),
    ],
)
def test_what_sacct_does_not_list_whole_does_not_land(book, programs, text, expected):
    program(programs, "sacct", text.replace("sleep", "exec sleep").replace("yes", "exec yes"))
    declare(book, accounting())
    outcome = pull(book)
    assert (landed(book), len(outcome.causes)) == ({}, 1)
    assert outcome.causes[0].startswith(f"alder-jobs: {expected}")


def test_a_host_cannot_be_an_option_of_ssh(book):
    declare(book, accounting(host="-oProxyCommand=touch"))
    with pytest.raises(BookError, match="expected a host or user@host"):
        pull(book)


def test_slurmrestd_is_asked_with_its_token_and_the_book_loads_its_jobs(book):
    answer = json.loads(real_file("sacct", "slurmrestd_24.05_0.0.41_slurm-jobs.json"))
    job = next(job for job in answer["jobs"] if job["job_state"] == ["RUNNING"])
    start = datetime(2026, 5, 6, 8, tzinfo=UTC)
    started = job["start_time"] | {"number": int(start.timestamp())}
    answer["jobs"] = [
        job | {"cluster": "alder", "start_time": started, "submit_time": started, "nodes": "ald01"}
    ]
    answer["last_update"]["number"] = int(NOW.timestamp())
    content = json.dumps(answer).encode()
    source = {
        "name": "alder",
        "kind": "slurmrestd",
        "api_version": "v0.0.41",
        "user": "wattbook",
        "token_variable": "TOKEN",
    }
    with serving(lambda _: Answer(content)) as server:
        declare(book, source | {"url": server.url})
        assert pull(book) == pulls.Outcome("alder", landed=1)
    [asked] = server.asked
    assert asked.path == "/slurm/v0.0.41/jobs"
    assert asked.headers["X-SLURM-USER-NAME"] == "wattbook"
    assert asked.headers["X-SLURM-USER-TOKEN"] == "s3cret"
    assert landed(book) == {"sacct/alder/jobs_20260506T093000Z.json": content}
    rows = loaded(book, "jobs", "job_id", "cluster", "started_at", "ended_at", "elapsed_s")
    assert rows == [(str(job["job_id"]), "alder", start, None, 5400)]


def prices(url: str, **changed: object) -> dict[str, object]:
    return {
        "name": "platform",
        "kind": "entsoe",
        "url": url,
        "zones": [ZONE],
        "documents": ["A44"],
        "first_day": date(2026, 5, 5),
        "token_variable": "TOKEN",
        "requests_per_minute": 6000,
    } | changed


def test_prices_are_asked_for_up_to_tomorrow_and_generation_up_to_today(book):
    empty = b"<Acknowledgement_MarketDocument/>"
    with serving(lambda _: Answer(empty)) as server:
        declare(book, prices(server.url, documents=["A44", "A75"]))
        assert pull(book) == pulls.Outcome("platform", landed=5)
    common = {"in_Domain": ZONE, "securityToken": "s3cret"}
    a44 = common | {"documentType": "A44", "out_Domain": ZONE}
    a75 = common | {"documentType": "A75", "processType": "A16"}

    def of(day: int) -> dict[str, str]:
        return {"periodStart": f"2026050{day}0000", "periodEnd": f"2026050{day + 1}0000"}

    assert [one.query for one in server.asked] == [
        *(a44 | of(day) for day in (5, 6, 7)),
        *(a75 | of(day) for day in (5, 6)),
    ]


def test_the_book_loads_the_prices_that_were_pulled(book):
    def answer(asked: Asked) -> Answer:
        day = datetime.strptime(asked.query["periodStart"], "%Y%m%d%H%M").replace(tzinfo=UTC)
        return Answer(small_world.day_ahead(day.date(), 80 + day.day).encode())

    limits = 100_000
    with serving(answer) as server:
        declare(book, prices(server.url, first_day=date(2026, 5, 6)))
        [outcome] = pulls.pull(
            book,
            environment=ENVIRONMENT,
            now=NOW,
            limits=Limits(answer_bytes=limits),
        )
    assert outcome.causes == []
    rows = loaded(book, "market_prices", "zone", "price_per_mwh")
    assert rows == [("DE-LU", 86.0)] * 96 + [("DE-LU", 87.0)] * 96


def test_no_data_with_status_400_is_nothing_to_land_and_no_failure(book):
    told = b"<a><Reason><code>999</code><text>No matching data found</text></Reason></a>"
    with serving(lambda _: Answer(told, 400)) as server:
        declare(book, prices(server.url))
        assert pull(book) == pulls.Outcome("platform")
        server.scripted.append(Answer(b"<a>Invalid query</a>", 400))
        assert "answered 400, expected 200: <a>Invalid query</a>" in pull(book).causes[0]


def test_carbon_is_asked_for_by_zone_and_day_and_the_book_loads_it(book):
    def answer(asked: Asked) -> Answer:
        hour = {
            "datetime": asked.query["start"].replace("Z", ".000Z"),
            "carbonIntensity": 321,
            "emissionFactorType": "direct",
            "isEstimated": False,
            "updatedAt": "2026-05-06T09:00:00.000Z",
        }
        return Answer(json.dumps({"zone": asked.query["zone"], "data": [hour]}).encode())

    source = {
        "name": "maps",
        "kind": "electricity_maps",
        "zones": ["DE"],
        "basis": "direct",
        "first_day": date(2026, 5, 6),
        "token_variable": "TOKEN",
    }
    with serving(answer) as server:
        declare(book, source | {"url": server.url})
        assert pull(book) == pulls.Outcome("maps", landed=1)
    [asked] = server.asked
    assert (asked.path, asked.headers["auth-token"]) == ("/carbon-intensity/past-range", "s3cret")
    assert asked.query == {
        "zone": "DE",
        "start": "2026-05-06T00:00:00Z",
        "end": "2026-05-07T00:00:00Z",
        "emissionFactorType": "direct",
    }
    start = datetime(2026, 5, 6, tzinfo=UTC)
    columns = ("zone", "interval_started_at", "interval_ended_at", "direct_g_per_kwh")
    assert loaded(book, "grid_carbon", *columns) == [
        ("DE", start, start + timedelta(hours=1), 321.0)
    ]


def event(number: int) -> dict[str, object]:
    return {
        "id": f"e{number}",
        "objectType": "EVENT",
        "programID": "limits",
        "createdDateTime": "2026-05-06T08:00:00Z",
        "modificationDateTime": "2026-05-06T08:00:00Z",
        "targets": ["alder-poc"],
        "payloadDescriptors": [{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KW"}],
        "intervalPeriod": {"start": "2026-05-06T12:00:00Z", "duration": "PT1H"},
        "intervals": [
            {"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [number]}]}
        ],
    }


def vtn(events: list[dict[str, object]], token: str = "t0k") -> "object":
    def answer(asked: Asked) -> Answer:
        if asked.path == "/auth/token":
            return Answer(json.dumps({"access_token": token, "token_type": "Bearer"}).encode())
        skip, limit = int(asked.query["skip"]), int(asked.query["limit"])
        return Answer(json.dumps(events[skip : skip + limit]).encode())

    return answer


def limits_of(url: str, **changed: object) -> dict[str, object]:
    return {
        "name": "dso",
        "kind": "openadr",
        "url": url,
        "programs": ["limits"],
        "client_id": "wattbook",
        "client_secret_variable": "TOKEN",
        "requests_per_minute": 6000,
    } | changed


LISTED = "openadr/full/limits/dso_20260506T093000Z.json"


def test_all_events_of_a_program_land_as_one_listing_and_the_book_loads_it(book):
    events = [event(number) for number in range(1, 3)]
    with serving(vtn(events)) as server:
        declare(book, limits_of(server.url, scope="read_all"))
        assert pull(book) == pulls.Outcome("dso", landed=1)
    token, listing = server.asked
    assert token.form == {
        "grant_type": "client_credentials",
        "client_id": "wattbook",
        "client_secret": "s3cret",
        "scope": "read_all",
    }
    assert listing.headers["Authorization"] == "Bearer t0k"
    assert listing.query == {"programID": "limits", "skip": "0", "limit": "50"}
    assert landed(book) == {LISTED: json.dumps(events).encode()}
    rows = loaded(book, "grid_events", "event_id", "target", "import_limit_kw")
    assert rows == [("e1", "alder-poc", 1.0), ("e2", "alder-poc", 2.0)]
    assert loaded(book, "grid_event_listings", "program_id", "known_at") == [("limits", NOW)]


def test_pages_of_a_listing_become_one_and_half_a_listing_never_lands(book):
    events = [event(number) for number in range(120)]
    limits = Limits(attempts=1)
    with serving(vtn(events)) as server:
        declare(book, limits_of(server.url))
        [outcome] = pulls.pull(book, environment=ENVIRONMENT, now=NOW, limits=limits)
        assert outcome == pulls.Outcome("dso", landed=1)
        assert json.loads(landed(book)[LISTED]) == events
        token = Answer(b'{"access_token":"t0k"}')
        page = Answer(json.dumps(events[:50]).encode())
        later = NOW + timedelta(hours=1)
        for broken in (Answer(b"", 500), Answer(json.dumps(events[49:99]).encode())):
            server.scripted += [token, page, broken]
            [outcome] = pulls.pull(book, environment=ENVIRONMENT, now=later, limits=limits)
            assert len(outcome.causes) == 1
    assert [*landed(book)] == [LISTED]


def test_a_vtn_that_gives_no_token_is_told_of(book):
    with serving(lambda _: Answer(b'{"error":"invalid_client"}')) as server:
        declare(book, limits_of(server.url))
        assert "found no access_token, expected one: check token_url" in pull(book).causes[0]


def drop(url: str, **changed: object) -> dict[str, object]:
    return {"name": "drop", "kind": "folder", "url": url, "format": "nem12"} | changed


def test_what_is_dropped_in_a_folder_is_copied_once_and_stays_there(book, tmp_path):
    folder = tmp_path / "drop"
    (folder / "may").mkdir(parents=True)
    old = folder / "may" / "a.csv"
    old.write_text("first")
    os.utime(old, (1, 1))
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    (folder / "link.csv").symlink_to(secret)
    fresh = folder / "fresh.csv"
    fresh.write_text("half")
    os.utime(fresh, (NOW.timestamp() - 5,) * 2)
    declare(book, drop(str(folder)))
    assert pull(book) == pulls.Outcome("drop", landed=1)
    assert landed(book) == {"nem12/drop/may/a.csv": b"first"}
    # What is deleted from landing is out of the book, and is not copied again.
    (book.landing / "nem12/drop/may/a.csv").unlink()
    assert pull(book) == pulls.Outcome("drop")
    old.write_text("second")
    os.utime(old, (2, 2))
    assert pull(book, NOW + timedelta(hours=1)) == pulls.Outcome("drop", landed=2)
    assert landed(book) == {"nem12/drop/fresh.csv": b"half", "nem12/drop/may/a.csv": b"second"}
    assert {file.name for file in folder.rglob("*")} == {"may", "a.csv", "link.csv", "fresh.csv"}


def test_what_is_dropped_in_a_bucket_is_copied_once(book, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        supplier = S3FileSystem(skip_instance_cache=True)
        supplier.call_s3("create_bucket", Bucket="supplier")
        supplier.pipe_file("supplier/out/may/a.csv", b"first")
        supplier.pipe_file("supplier/out/b.csv", b"second")
        supplier.pipe_file("supplier/out/b.txt", b"not this")
        supplier.pipe_file("supplier/other/b.csv", b"not this")
        declare(book, drop("s3://supplier/out", pattern="*.csv"))
        later = datetime.now(UTC) + timedelta(hours=1)
        assert pull(book, later) == pulls.Outcome("drop", landed=2)
        assert landed(book) == {"nem12/drop/b.csv": b"second", "nem12/drop/may/a.csv": b"first"}
        assert pull(book, later) == pulls.Outcome("drop")
    finally:
        server.stop()


def test_a_folder_that_is_not_there_and_a_format_that_is_none_are_told(book, tmp_path):
    declare(book, drop(str(tmp_path / "none")))
    assert "none: not found, expected a folder: check url" in pull(book).causes[0]
    declare(book, drop(str(tmp_path), format="xlsx"))
    assert "found the format xlsx, expected one of prometheus" in pull(book).causes[0]
