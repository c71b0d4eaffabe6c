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
from pipelines.pulls import watttime, web
from pipelines.pulls.desk import Limits
from tests import small_world
from tests.pulls.servers import QUICK, Answer, Asked, archive, declare, landed, serving
from tests.real_files import real_file

REFERENCE = Path(__file__).parents[1] / "cases" / "base" / "reference"
NOW = datetime(2026, 5, 6, 9, 30, tzinfo=UTC)
ENVIRONMENT = {"TOKEN": "s3cret", "NAME": "anna", "PASSWORD": "pa:ss", "KEY": "k3y"}
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
    a44 = common | {
        "documentType": "A44",
        "contract_MarketAgreement.type": "A01",
        "out_Domain": ZONE,
    }
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
        "end": "2026-05-06T09:30:00Z",
        "emissionFactorType": "direct",
    }
    start = datetime(2026, 5, 6, tzinfo=UTC)
    columns = ("zone", "interval_started_at", "interval_ended_at", "direct_g_per_kwh")
    assert loaded(book, "grid_carbon", *columns) == [
        ("DE", start, start + timedelta(hours=1), 321.0)
    ]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited; nobody waits."""
    waited: list[float] = []
    monkeypatch.setattr(web.time, "sleep", waited.append)
    return waited


def rates_of(url: str, **changed: object) -> dict[str, object]:
    return {
        "name": "rates",
        "kind": "watttime",
        "url": url,
        "regions": ["CAISO_NORTH"],
        "first_day": date(2026, 5, 6),
        "user_variable": "NAME",
        "password_variable": "PASSWORD",
    } | changed


def watttime_answer(asked: Asked) -> Answer:
    if asked.path == "/login":
        return Answer(b'{"token":"t0k"}')
    meta = {
        "data_point_period_seconds": 300,
        "region": asked.query["region"],
        "signal_type": asked.query["signal_type"],
        "units": "lbs_co2_per_mwh",
        "warnings": [],
        "model": {"date": "2026-03-01"},
    }
    point = {"point_time": asked.query["start"].replace("Z", "+00:00"), "value": 800.0}
    return Answer(json.dumps({"data": [point], "meta": meta}).encode())


def test_average_rates_are_asked_for_with_a_token_and_the_book_loads_them(book, pauses):
    with serving(watttime_answer) as server:
        declare(book, rates_of(server.url))
        assert pull(book) == pulls.Outcome("rates", landed=1)
    login, asked = server.asked
    # anna:pa:ss in base64.
    assert (login.path, login.headers["Authorization"]) == ("/login", "Basic YW5uYTpwYTpzcw==")
    assert (asked.path, asked.headers["Authorization"]) == ("/v3/historical", "Bearer t0k")
    assert asked.query == {
        "region": "CAISO_NORTH",
        "signal_type": "co2_aoer",
        "start": "2026-05-06T00:00:00Z",
        "end": "2026-05-06T09:30:00Z",
    }
    [name] = landed(book)
    assert name == "watttime/rates/CAISO_NORTH/20260506T000000Z_20260507T000000Z.json"
    start = datetime(2026, 5, 6, tzinfo=UTC)
    columns = ("zone", "interval_started_at", "interval_ended_at", "direct_g_per_kwh")
    # 800 lb are 362.873896 kg.
    assert loaded(book, "grid_carbon", *columns) == [
        ("CAISO_NORTH", start, start + timedelta(minutes=5), pytest.approx(362.873896))
    ]


def test_what_is_long_past_is_asked_for_in_windows_of_at_most_30_days(book, pauses):
    with serving(watttime_answer) as server:
        declare(book, rates_of(server.url, first_day=date(2026, 3, 1)))
        assert pull(book).causes == []
        first = [one.query for one in server.asked if one.path == "/v3/historical"]
        server.asked.clear()
        assert pull(book, NOW + timedelta(days=1)).causes == []
        then = [one.query["start"] for one in server.asked if one.path == "/v3/historical"]
    spans = [(one["start"][5:10], one["end"][5:10]) for one in first]
    # 8 March 2026 is day 20,520 since 1970, a multiple of 30; so is 7 April, but what is less than
    # 30 days and the overlap before now is asked for day by day.
    assert spans[:8] == [(day, day) for day in (f"03-0{n}" for n in range(1, 8))] + [
        ("03-08", "04-06")
    ]
    assert [start for start, end in spans[8:] if start == end] == [
        f"{date(2026, 4, 7) + timedelta(days=n):%m-%d}" for n in range(30)
    ]
    assert len(spans) == 8 + 30
    assert [start[5:10] for start in then] == ["05-04", "05-05", "05-06", "05-07"]


def test_a_token_that_is_refused_or_has_ended_is_got_anew(book, pauses, monkeypatch):
    with serving(watttime_answer) as server:
        good = watttime_answer(
            Asked("", {"region": "a", "signal_type": "co2_aoer", "start": ""}, {}, {})
        )
        server.scripted += [Answer(b'{"token":"old"}'), good, Answer(b"expired", 401)]
        declare(book, rates_of(server.url, first_day=date(2026, 5, 5)))
        assert pull(book) == pulls.Outcome("rates", landed=2)
        login, data = "/login", "/v3/historical"
        assert [one.path for one in server.asked] == [login, data, data, login, data]
        server.asked.clear()
        monkeypatch.setattr(watttime, "TOKEN_S", 0)
        assert pull(book, NOW + timedelta(days=1)).causes == []
        assert [one.path for one in server.asked] == [login, data] * 3


def test_a_new_token_that_is_refused_is_no_cause_to_go_on(book, pauses):
    def refuse(asked: Asked) -> Answer:
        return Answer(b'{"token":"t0k"}') if asked.path == "/login" else Answer(b"no t0k", 401)

    with serving(refuse) as server:
        declare(book, rates_of(server.url))
        assert "answered 401, expected 200: no …" in pull(book).causes[0]
    assert len(server.asked) == 2


def nodes_of(url: str, **changed: object) -> dict[str, object]:
    return {
        "name": "oasis",
        "kind": "caiso",
        "url": url,
        "nodes": ["TH_NP15_GEN-APND"],
        "first_day": date(2026, 5, 5),
    } | changed


OASIS = """\
INTERVALSTARTTIME_GMT,INTERVALENDTIME_GMT,OPR_DT,OPR_HR,NODE_ID,MARKET_RUN_ID,LMP_TYPE,MW,GROUP
2026-05-0{day}T07:00:00-00:00,2026-05-0{day}T08:00:00-00:00,2026-05-0{day},1,{node},DAM,LMP,3{day}.5,1
2026-05-0{day}T07:00:00-00:00,2026-05-0{day}T08:00:00-00:00,2026-05-0{day},1,{node},DAM,MCC,0.1,2
"""
OASIS_ERROR = """\
<?xml version="1.0" encoding="UTF-8"?>
<m:OASISReport xmlns:m="http://www.caiso.com/soa/OASISReport_v1.xsd"><m:MessagePayload><m:RTO>
<m:ERROR><m:ERR_CODE>{code}</m:ERR_CODE><m:ERR_DESC>{told}</m:ERR_DESC></m:ERROR>
</m:RTO></m:MessagePayload></m:OASISReport>
"""
NO_DATA = archive(
    "INVALID_REQUEST.xml",
    OASIS_ERROR.format(code=1000, told="No data returned for the specified selection"),
)


def oasis_answer(asked: Asked) -> Answer:
    day = int(asked.query["startdatetime"][6:8])
    name = f"2026050{day}_2026050{day}_PRC_LMP_DAM_20260506_09_30_00_v12.csv"
    return Answer(archive(name, OASIS.format(day=day, node=asked.query["node"])))


def test_prices_of_a_node_land_as_oasis_packs_them_and_the_book_loads_them(book, pauses):
    with serving(oasis_answer) as server:
        declare(book, nodes_of(server.url))
        assert pull(book) == pulls.Outcome("oasis", landed=3)
    assert [one.path for one in server.asked] == ["/SingleZip"] * 3
    assert server.asked[2].query == {
        "queryname": "PRC_LMP",
        "market_run_id": "DAM",
        "node": "TH_NP15_GEN-APND",
        "startdatetime": "20260507T00:00-0000",
        "enddatetime": "20260508T00:00-0000",
        "version": "12",
        "resultformat": "6",
    }
    files = landed(book)
    first = "prices_csv/oasis/TH_NP15_GEN-APND/20260505T000000Z_20260506T000000Z.zip"
    assert len(files) == 3
    assert files[first] == oasis_answer(server.asked[0]).content
    columns = ("zone", "interval_started_at", "price_per_mwh", "currency_code")
    assert loaded(book, "market_prices", *columns) == [
        ("TH_NP15_GEN-APND", datetime(2026, 5, day, 7, tzinfo=UTC), 30.5 + day, "USD")
        for day in (5, 6, 7)
    ]
    # One request every 6 seconds, and the first at once.
    assert [round(pause) for pause in pauses] == [0, 6, 6]


def test_what_oasis_has_not_is_nothing_to_land_and_what_it_refuses_is_told(book, pauses):
    with serving(lambda _: Answer(NO_DATA)) as server:
        declare(book, nodes_of(server.url))
        assert pull(book) == pulls.Outcome("oasis")
        refused = archive("INVALID_REQUEST.xml", OASIS_ERROR.format(code=1001, told="No such node"))
        server.scripted.append(Answer(refused))
        [cause] = pull(book).causes
        assert "expected prices of TH_NP15_GEN-APND: 1001: No such node" in cause
        server.scripted.append(
            Answer(b"<html>Please retry your request after 5 seconds.</html>", 429)
        )
        assert pull(book).causes == []
    assert landed(book) == {}


def hubs_of(url: str, token_url: str, **changed: object) -> dict[str, object]:
    return {
        "name": "hubs",
        "kind": "ercot",
        "url": url,
        "token_url": f"{token_url}/token",
        "first_day": date(2026, 5, 6),
        "overlap_days": 1,
        "user_variable": "NAME",
        "password_variable": "PASSWORD",
        "key_variable": "KEY",
    } | changed


ERCOT = """\
DeliveryDate,HourEnding,SettlementPoint,SettlementPointPrice,DSTFlag
05/0{day}/2026,01:00,HB_NORTH,2{day}.5,N
05/0{day}/2026,24:00,LZ_WEST,-{day}.25,N
"""
POSTED = {"1016533754": "2026-05-05T12:45:31.112", "1016599999": "2026-05-06T20:45:30"}


def ercot_answer(asked: Asked, posted: dict[str, str] = POSTED) -> Answer:
    if "download" in asked.query:
        day = int(posted[asked.query["download"]][9]) + 1
        return Answer(archive("cdr.00012331.csv", ERCOT.format(day=day)))
    start, end = asked.query["postDatetimeFrom"], asked.query["postDatetimeTo"]
    files = [
        {"docId": int(document), "friendlyName": "DAM_SPP", "postDatetime": posted_at}
        for document, posted_at in posted.items()
        if start <= posted_at < end
    ]
    page = int(asked.query["page"])
    meta = {"totalRecords": len(files), "totalPages": len(files), "currentPage": page}
    return Answer(json.dumps({"_meta": meta, "archives": files[page - 1 : page]}).encode())


def test_files_that_ercot_posts_land_once_and_the_book_loads_them(book, pauses):
    with (
        serving(lambda _: Answer(b'{"id_token":"t0k","access_token":"other"}')) as entrance,
        serving(ercot_answer) as server,
    ):
        declare(book, hubs_of(server.url, entrance.url))
        assert pull(book) == pulls.Outcome("hubs", landed=1)
        asked = [one.query for one in server.asked]
        assert pull(book, NOW + timedelta(days=1)) == pulls.Outcome("hubs", landed=1)
        assert pull(book, NOW + timedelta(days=1)) == pulls.Outcome("hubs")
    [token, *_] = entrance.asked
    client = "fec253ea-0d06-4272-a5e6-b478baeecd70"
    assert token.form == {
        "grant_type": "password",
        "username": "anna",
        "password": "pa:ss",
        "response_type": "id_token",
        "scope": f"openid {client} offline_access",
        "client_id": client,
    }
    assert {"Authorization", "Ocp-Apim-Subscription-Key"}.isdisjoint(token.headers)
    assert {one.path for one in server.asked} == {"/archive/np4-190-cd"}
    for one in server.asked:
        assert one.headers["Authorization"] == "Bearer t0k"
        assert one.headers["Ocp-Apim-Subscription-Key"] == "k3y"
    # Midnight UTC is 19:00 of the day before in Texas; the file of the 6th is posted on the 5th.
    listed = {
        "postDatetimeFrom": "2026-05-04T19:00:00",
        "postDatetimeTo": "2026-05-05T19:00:00",
        "size": "1000",
        "page": "1",
    }
    assert asked[:2] == [listed, {"download": "1016533754"}]
    assert [one.query["download"] for one in server.asked if "download" in one.query] == [*POSTED]
    assert [*landed(book)] == [f"prices_csv/hubs/np4-190-cd_{document}.zip" for document in POSTED]
    columns = ("zone", "interval_started_at", "price_per_mwh")
    assert loaded(book, "market_prices", *columns) == [
        (zone, datetime(2026, 5, day, 5, tzinfo=UTC) + timedelta(hours=hour), price)
        for day in (6, 7)
        for zone, hour, price in (("HB_NORTH", 0, 20.5 + day), ("LZ_WEST", 23, -day - 0.25))
    ]


def test_a_list_of_files_goes_on_over_its_pages(book, pauses):
    of_a_day = {"1": "2026-05-05T12:45:31", "2": "2026-05-05T13:00:00"}
    with (
        serving(lambda _: Answer(b'{"id_token":"t0k"}')) as entrance,
        serving(lambda asked: ercot_answer(asked, of_a_day)) as server,
    ):
        declare(book, hubs_of(server.url, entrance.url))
        assert pull(book) == pulls.Outcome("hubs", landed=2)
        pages = [one.query.get("page", "file") for one in server.asked]
        assert pages == ["1", "2", "file", "file", "1"]
        server.scripted.append(Answer(b'{"archives":[{"docId":"../x"}]}'))
        assert "found no list of files" in pull(book).causes[0]


EXR = """\
KEY,FREQ,CURRENCY,CURRENCY_DENOM,EXR_TYPE,EXR_SUFFIX,TIME_PERIOD,OBS_VALUE,OBS_STATUS,TITLE\r
EXR.D.USD.EUR.SP00.A,D,USD,EUR,SP00,A,2026-05-05,1.25,A,"US dollar, daily"\r
"""


def currencies_of(url: str, **changed: object) -> dict[str, object]:
    return {
        "name": "bank",
        "kind": "ecb",
        "url": url,
        "currencies": ["USD"],
        "first_day": date(2026, 5, 5),
    } | changed


@pytest.mark.parametrize("nothing", ["", EXR.splitlines(keepends=True)[0]])
def test_rates_of_business_days_land_and_the_book_loads_them(book, pauses, nothing):
    def answer(asked: Asked) -> Answer:
        has_rate = asked.query["startPeriod"] == "2026-05-05"
        return Answer((EXR if has_rate else nothing).encode())

    with serving(answer) as server:
        declare(book, currencies_of(server.url))
        assert pull(book) == pulls.Outcome("bank", landed=1)
    assert [(one.path, one.query) for one in server.asked] == [
        (
            "/data/EXR/D.USD.EUR.SP00.A",
            {"startPeriod": day, "endPeriod": day, "format": "csvdata"},
        )
        for day in ("2026-05-05", "2026-05-06")
    ]
    assert landed(book) == {
        "ecb/bank/USD/20260505T000000Z_20260506T000000Z.csv": EXR.encode(),
    }
    columns = ("rate_date", "currency_code", "units_per_euro", "data_source", "known_at")
    assert loaded(book, "exchange_rates", *columns) == [
        (
            date(2026, 5, 5),
            "USD",
            1.25,
            "ECB EXR.D.USD.EUR.SP00.A",
            datetime(2026, 5, 5, 14, tzinfo=UTC),
        )
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
