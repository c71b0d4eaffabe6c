"""The command line: exit status, errors one a line on standard error, what is printed."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import duckdb
import openpyxl
import pexpect
import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines import cli, lake, pack, warehouse
from pipelines.book import Book
from pipelines.cli import app
from pipelines.pack import PublishedPack
from pipelines.published import publishing, query, week
from pipelines.simulator import landing
from pipelines.simulator.landing import DEMO_REFERENCE

NEM12_DAY = ",".join(["1.5"] * 48)
SACCT = (
    "JobID|JobIDRaw|Cluster|Partition|QOS|Account|User|JobName|State|Submit|Start|End|ElapsedRaw"
    "|NNodes|AllocTRES|NodeList|ConsumedEnergyRaw|Comment"
)
JOB = (
    "2026-10-01T08:00:00|2026-10-01T09:00:00|2026-10-01T10:00:00|3600|1|gres/gpu=4,node=1|jwb0001||"
)


def scrape(hostname: str, power_w: str) -> str:
    return (
        "# TYPE DCGM_FI_DEV_POWER_USAGE gauge\n"
        + 'DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-1",modelName="NVIDIA GH200 120GB",Hostname="'
        + f'{hostname}"}} {power_w}\n'
        + 'DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-2",modelName="NVIDIA GH200 120GB",Hostname="'
        + f'{hostname}"}} 598.3\n'
    )


LANDED: dict[str, bytes] = {
    "nem12/good.csv": (
        "100,NEM12,202610020400,MDP1,RET1\n"
        "200,JLFAC00001,E1,E1,E1,,,kWh,30,\n"
        f"300,20261001,{NEM12_DAY},A,,,20261002040000,\n"
        "900\n"
    ).encode(),
    "nem12/count.csv": (
        "100,NEM12,202610020400,MDP1,RET1\n"
        "200,JLIT000001,E1,E1,E1,,,kWh,30,\n"
        f"300,20261001,{NEM12_DAY},A,,,20261002040000,\n"
        f"300,20261002,{NEM12_DAY[4:]},A,,,20261003040000,\n"
        "900\n"
    ).encode(),
    "nem12/meter.csv": (
        "100,NEM12,202610020400,MDP1,RET1\n"
        "200,NOSUCHNMI0,E1,E1,E1,,,kWh,30,\n"
        f"300,20261001,{NEM12_DAY},A,,,20261002040000,\n"
        "900\n"
    ).encode(),
    "dcgm_scrape/xyz0001_20261001T120000Z.prom": scrape("xyz0001", "601.5").encode(),
    "dcgm_scrape/jwb0001_20261001T120000Z.prom": scrape("jwb0001", "NaN").encode(),
    "sacct/cluster.txt": (
        f"{SACCT}\n"
        f"1|1|juelich|gpu|q|a|u|train|COMPLETED|{JOB}\n"
        f"2|2|nowhere|gpu|q|a|u|train|COMPLETED|{JOB}\n"
    ).encode(),
    "green_button/cut.xml": b'<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>urn:uu',
    "openadr/shape.json": b'{"temperature": [21.5, 22.0]}',
    "battery_csv/zone.csv": (
        b"timestamp,battery_id,state_of_charge_pct,power_kw,state\n"
        b"2026-10-01T00:00:00,sparks-second-life,50,0,standby\n"
        b"2026-10-01T00:05:00Z,sparks-second-life,50,0,standby\n"
    ),
    "entsoe/empty.xml": b"",
    "sacct/binary.txt": bytes(range(256)),
}
# File -> rows loaded, rows quarantined, and what its reason has to name: the field, what was found,
# what was expected or how to mend it. A day of NEM12 with a wrong count is one row.
OUTCOMES: dict[str, tuple[str, int, int, list[str]]] = {
    "nem12/good.csv": ("loaded", 48, 0, []),
    "nem12/count.csv": ("partial", 48, 1, ["300 record of 20261002", "47 values", "expected 48"]),
    "nem12/meter.csv": (
        "partial",
        0,
        48,
        ["meter_id NOSUCHNMI0", "not declared", "add it to reference/meters.yml"],
    ),
    "dcgm_scrape/xyz0001_20261001T120000Z.prom": (
        "partial",
        0,
        2,
        ["hostname xyz0001", "not declared", "add it to hostnames of node_groups"],
    ),
    "dcgm_scrape/jwb0001_20261001T120000Z.prom": (
        "partial",
        1,
        1,
        ["power_w", "'NaN'", "expected a number"],
    ),
    "sacct/cluster.txt": (
        "partial",
        1,
        1,
        ["Cluster 'nowhere'", "expected a cluster", "declare the cluster in reference/sites"],
    ),
    "battery_csv/zone.csv": (
        "partial",
        1,
        1,
        ["timestamp '2026-10-01T00:00:00'", "has no time zone", "expected Z or an offset"],
    ),
    "green_button/cut.xml": ("failed", 0, 0, ["not well-formed XML", "expected a Green Button"]),
    "openadr/shape.json": ("failed", 0, 0, ["no intervals", "expected an OpenADR 3 event"]),
    "entsoe/empty.xml": ("failed", 0, 0, ["found 0 bytes", "expected a file", "send it again"]),
    "sacct/binary.txt": ("failed", 0, 0, ["not UTF-8", "expected the output of sacct"]),
}

COMMANDS = [
    *(
        "demo",
        "simulate",
        "load",
        "build",
        "publish",
        "health",
        "init",
        "run",
        "sql",
        "statement",
        "tables",
        "validate",
        "withdraw",
    ),
]


def wattbook(book: Book, *arguments: str):
    return CliRunner().invoke(app, ["--data-dir", str(book.data_dir), *arguments])


def test_help_names_every_command():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert [name for name in COMMANDS if f"  {name} " not in result.stdout] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"{command} [OPTIONS]" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bild"], "No such command 'bild'"),
        (["build", "--from", "2026-13-01"], "found '2026-13-01', expected a date as 2026-10-05"),
        (["build", "--from", "2026-10-05", "--to", "2026-10-04"], "is after --to 2026-10-04"),
        (["build", "--as-of", "yesterday"], "found 'yesterday', expected a date or time"),
        (["sql", "select 1"], "Missing option '--team'"),
        (["sql", "--team", "marketing", "select 1"], "'marketing' is not one of"),
        (["sql", "--team", "energy", "--format", "xls", "select 1"], "'xls' is not one of"),
        (["statement", "lupinus", "September"], "found 'September', expected a month as 2026-09"),
        (["simulate", "--until", "soon"], "found 'soon', expected a date or time"),
    ],
)
def test_wrong_use_exits_with_2_and_says_what_is_expected(book, arguments, message):
    result = wattbook(book, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["publish"], "not built yet: run `wattbook build` first"),
        (["health"], "not published yet: run `wattbook run` first"),
        (["sql", "--team", "energy", "select 1"], "not published yet: run `wattbook run` first"),
    ],
)
def test_a_failure_exits_with_1_and_names_its_cause_on_one_line(book, arguments, cause):
    result = wattbook(book, *arguments)
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert cause in errors[0]


def test_what_teams_read_is_in_health_as_long_as_it_is_recent(book):
    published_at = datetime.now(UTC) - timedelta(hours=12)
    for team in query.TEAMS:
        mark = book.published / ".versions" / team / "current" / "publication.json"
        mark.parent.mkdir(parents=True)
        mark.touch()
        os.utime(mark, (published_at.timestamp(), published_at.timestamp()))
    said = f"published at {published_at:%Y-%m-%dT%H:%MZ}, 12.0 hours ago"
    recent, old = wattbook(book, "health"), wattbook(book, "health", "--hours", "6")
    assert (recent.exit_code, recent.stdout) == (0, f"{said}\n")
    assert (old.exit_code, old.stderr) == (
        *(1, f"error: {said}, expected 6 at most: see the last runs\n"),
    )


def test_a_mistake_in_the_reference_data_fails_validate_with_one_line_each(book):
    reference = book.data_dir / "reference"
    (reference / "organization.yml").write_text("organization_id: demo\ntime_zone: Mars/Base\n")
    result = wattbook(book, "validate")
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if "organization.yml" in line]
    assert not (book.data_dir / "lake").exists()


def test_mistakes_come_by_file_and_line_some_of_each_file_and_with_their_number(book):
    reference = book.data_dir / "reference"
    wrong = "".join(f"  - {{kpi_id: k, target: x{n}, direction: at_least}}\n" for n in range(25))
    (reference / "targets.yml").write_text(f"targets:\n{wrong}")
    (reference / "meters.yml").write_text("meters: {}\n")
    result = wattbook(book, "validate")
    lines = result.stderr.splitlines()
    first = lines.index(
        "error: meters.yml:1: meters: found fields with values, expected a list: write it as in"
    )
    assert lines[first + 1 : first + 5] == [
        "    meters:",
        "    - meter_id: meter",
        "      site_id: site",
        "error: targets.yml:2: targets.0.target: found 'x0', expected a number: correct it",
    ]
    assert lines[-2:] == [
        "error: targets.yml: 5 more mistakes, told once these are mended",
        "error: 26 mistakes in 2 files",
    ]


def test_validate_writes_the_schemas_that_editors_read(book):
    reference = book.data_dir / "reference"
    shutil.rmtree(reference / ".schemas")
    result = wattbook(book, "validate", "--schemas")
    assert result.exit_code == 0
    assert sorted(file.name for file in (reference / ".schemas").iterdir()) == sorted(
        file.name for file in (DEMO_REFERENCE / ".schemas").iterdir()
    )


def test_the_projects_own_reference_data_is_valid_and_absence_of_files_is_no_error(book):
    result = wattbook(book, "validate")
    assert (result.exit_code, result.stderr.splitlines()[:-1]) == (0, [])
    told = result.stdout.splitlines()
    assert "│ cloud-us-south │ not of a public cloud" in result.stdout
    assert "the cloud's bill: land in landing/focus" in told
    assert (
        "market prices of the site's bidding zone: land in landing/entsoe, landing/prices_csv"
        in told
    )
    assert [path.name for path in book.data_dir.iterdir()] == ["reference"]


def test_a_warehouse_that_another_program_holds_open_is_an_error_of_one_line(book):
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, book.warehouse], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        result = wattbook(book, "build")
        other.communicate(b"\n")
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Conflicting lock is held" in errors[0]


def test_load_prints_what_it_did_and_the_reason_of_each_failure(book):
    folder = book.landing / "faxes"
    folder.mkdir(parents=True)
    (folder / "page.txt").write_text("unreadable")
    result = wattbook(book, "load")
    assert result.exit_code == 1
    assert result.stdout == (
        "loaded 0, skipped 0, partly loaded 0 (0 rows quarantined), failed 1\n"
    )
    failures = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failures) == 1
    assert failures[0].startswith("failed: faxes/page.txt: found landing folder 'faxes'")


@pytest.fixture
def landed(book):
    """A book whose landing holds a sound file and ten that are not."""
    for name, content in LANDED.items():
        (book.landing / name).parent.mkdir(parents=True, exist_ok=True)
        (book.landing / name).write_bytes(content)
    return book


def test_one_load_takes_what_is_sound_and_says_of_each_bad_file_what_to_mend(landed):
    result = wattbook(landed, "load")
    assert result.exit_code == 1
    assert result.stdout == (
        "loaded 1, skipped 0, partly loaded 6 (54 rows quarantined), failed 4\n"
    )
    records = {
        row["source_file"]: row for row in lake.read_load_records(landed).iter_rows(named=True)
    }
    assert {
        name: (row["status"], row["row_count"], row["quarantined_row_count"])
        for name, row in records.items()
    } == {name: outcome[:3] for name, outcome in OUTCOMES.items()}
    for name, (status, _, _, words) in OUTCOMES.items():
        lines = [line for line in result.stderr.splitlines() if f"{status}: {name}: " in line]
        assert len(lines) == bool(words), name
        assert [word for word in words if word not in "".join(lines)] == [], name


def test_every_row_of_a_bad_file_is_in_the_lake_or_in_quarantine_with_its_reason(landed):
    wattbook(landed, "load")
    tables = ("meter_readings", "gpu_samples", "jobs", "battery_samples")
    rows = {
        folder.name: pl.concat(
            [
                pl.read_parquet(file, columns=["source_file", "source_row"])
                for table in tables
                for file in sorted((folder / table).rglob("*.parquet"))
            ]
        )
        for folder in (landed.lake, landed.quarantine)
    }
    for name, (status, loaded, quarantined, words) in OUTCOMES.items():
        if status == "failed":
            continue
        found = {
            folder: frame.filter(pl.col("source_file") == name)["source_row"].to_list()
            for folder, frame in rows.items()
        }
        assert (len(found["lake"]), len(found["quarantine"])) == (loaded, quarantined), name
        both = sorted(found["lake"] + found["quarantine"])
        assert both == list(range(loaded + quarantined)), name
        reasons = [
            reason
            for table in tables
            for file in sorted((landed.quarantine / table).glob("*.parquet"))
            for reason in pl.read_parquet(file).filter(source_file=name)["reason"]
        ]
        assert len(reasons) == quarantined
        assert [word for word in words for reason in reasons if word not in reason] == [], name


def test_a_second_load_of_the_same_bad_files_changes_nothing_and_still_fails(landed):
    wattbook(landed, "load")
    before = lake.read_load_records(landed).sort("source_file")
    result = wattbook(landed, "load")
    assert result.exit_code == 1
    assert result.stdout == "loaded 0, skipped 7, partly loaded 0 (0 rows quarantined), failed 4\n"
    assert lake.read_load_records(landed).sort("source_file").equals(before)


def test_a_file_is_withdrawn_and_brought_back_by_its_name(landed):
    wattbook(landed, "load")
    gone = wattbook(landed, "withdraw", "nem12/good.csv")
    assert (gone.exit_code, gone.stdout) == (
        0,
        "nem12/good.csv (48 rows) is out of the book from the next build on\n",
    )
    back = wattbook(landed, "withdraw", "--undo", "nem12/good.csv")
    assert back.stdout == "nem12/good.csv (48 rows) is in the book again from the next build on\n"
    wrong = wattbook(landed, "withdraw", "nem12/nothing.csv")
    assert wrong.exit_code == 1
    assert wrong.stderr.startswith("error: nem12/nothing.csv: found no such load")


def test_a_file_that_was_deleted_is_said(landed):
    wattbook(landed, "load")
    (landed.landing / "nem12" / "good.csv").unlink()
    again = wattbook(landed, "load")
    assert (
        "deleted: nem12/good.csv: is out of the book from the next build on"
        in again.stderr.splitlines()
    )


def test_a_lake_with_holes_fails_the_load_and_stops_the_build(landed):
    wattbook(landed, "load")
    [readings] = (
        file
        for file in (landed.lake / "meter_readings").glob("*.parquet")
        if file.name != "schema.parquet"
    )
    readings.unlink()
    shutil.rmtree(landed.landing)
    lost = (
        f"lake/meter_readings/{readings.name}: found no file, expected the rows of nem12/count.csv,"
        " nem12/good.csv: put these into landing and run `wattbook load`, or `wattbook withdraw`"
        " them"
    )
    loaded, built = wattbook(landed, "load"), wattbook(landed, "build")
    assert (loaded.exit_code, built.exit_code) == (1, 1)
    assert f"lost: {lost}" in loaded.stderr.splitlines()
    assert f"error: {lost}" in built.stderr.splitlines()
    wattbook(landed, "withdraw", "nem12/count.csv", "nem12/good.csv")
    assert lake.damage(landed, lake.read_load_records(landed)) == []


@pytest.fixture
def asked(book):
    """A book of which energy sees a narrow table, a wide one, and 100 rows of a third."""
    book.published.mkdir(parents=True)
    with duckdb.connect(str(book.published / "energy.duckdb")) as connection:
        connection.execute("create schema marts")
        connection.execute("create table marts.dim_sites as select 'juelich' as site_id, 1.4 as mw")
        connection.execute("comment on table marts.dim_sites is 'Sites. One row per site.'")
        connection.execute("comment on column marts.dim_sites.mw is 'Connection.'")
        connection.execute(
            "create table marts.fct_wide as select repeat('a', 50) as one, null::text as two,"
            " repeat('b', 40) as three"
        )
        connection.execute("create table marts.fct_long as select range as n from range(100)")
    (book.published / query.MARK).write_text('{"of_other_teams": {"fct_prices": ["finance"]}}')
    return book


SIZE = "COLUMNS", "LINES"


def on_a_terminal(book, *arguments: str, width: int = 80, height: int = 60, **environment: str):
    """The command on a terminal of that size."""
    return pexpect.spawn(
        sys.executable,
        [
            "-c",
            "from pipelines.cli import app; app()",
            "--data-dir",
            str(book.data_dir),
            *arguments,
        ],
        dimensions=(height, width),
        encoding="utf-8",
        timeout=60,
        env={
            # The terminal alone says how large it is.
            **{name: value for name, value in os.environ.items() if name not in SIZE},
            "TERM": "xterm",
            "PAGER": "cat",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            **environment,
        },
    )


def shown_on_a_terminal(book, *arguments: str, **how) -> list[str]:
    child = on_a_terminal(book, *arguments, **how)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    return child.before.replace("\r\n", "\n").splitlines()


def test_sql_prints_a_table_or_the_form_asked_for(asked):
    as_csv = wattbook(asked, "sql", "--team", "energy", "from dim_sites", "--format", "csv")
    assert (as_csv.exit_code, as_csv.stdout) == (0, "site_id,mw\njuelich,1.4\n")
    as_table = wattbook(asked, "sql", "--team", "energy", "from dim_sites")
    assert as_table.stdout == "site_id   mw\n───────  ───\njuelich  1.4\n"


def test_what_is_piped_is_whole_with_one_row_a_line(asked):
    wide = wattbook(asked, "sql", "--team", "energy", "select repeat('x', 900) as x from fct_long")
    assert wide.stdout.splitlines() == ["x", "─" * 900, *["x" * 900] * 100]
    few = wattbook(asked, "sql", "--team", "energy", "from fct_long", "--rows", "2")
    assert few.stdout.splitlines() == ["n", "─", "0", "1"]
    wrong = wattbook(asked, "sql", "--team", "energy", "from fct_long", "--rows", "few")
    assert (wrong.exit_code, "expected a number or all" in wrong.stderr) == (2, True)


def test_a_statement_can_be_piped_in_and_an_answer_go_to_a_file(asked, tmp_path):
    arguments = ["--data-dir", str(asked.data_dir), "sql", "--team", "energy"]
    piped = CliRunner().invoke(app, arguments, input="select 7 as n")
    assert piped.stdout == "n\n─\n7\n"
    file = tmp_path / "answer.xlsx"
    written = wattbook(
        *(asked, "sql", "--team", "energy", "from dim_sites", "--format", "xlsx"),
        *("--output", str(file)),
    )
    assert (written.exit_code, written.stdout) == (0, "")
    assert list(openpyxl.load_workbook(file).active.values) == [("site_id", "mw"), ("juelich", 1.4)]


def test_a_terminal_shows_forty_rows_and_how_many_more_there_are(asked):
    lines = shown_on_a_terminal(asked, "sql", "--team", "energy", "from fct_long")
    assert lines[0].split() == ["n"]
    assert [line.strip() for line in lines[2:42]] == [str(n) for n in range(40)]
    assert lines[42:] == ["first 40 of 100 rows, 60 more: see --rows"]
    every = shown_on_a_terminal(asked, "sql", "--team", "energy", "from fct_long", "--rows", "all")
    assert (len(every), every[-1]) == (103, "100 rows")


def test_a_terminal_pages_what_is_longer_than_it_by_the_pager_of_the_user(asked):
    arguments = ("sql", "--team", "energy", "from fct_long")
    pager = "sed 's/^/paged /'"
    paged = shown_on_a_terminal(asked, *arguments, height=24, PAGER=pager)
    assert [line for line in paged if not line.startswith("paged ")] == []
    whole = shown_on_a_terminal(asked, *arguments, height=60, PAGER=pager)
    assert [line for line in whole if line.startswith("paged ")] == []


def test_a_table_too_wide_loses_what_is_empty_and_then_becomes_records(asked):
    arguments = ("sql", "--team", "energy", "from fct_wide")
    assert shown_on_a_terminal(asked, *arguments, width=160)[0].split() == ["one", "two", "three"]
    left_out = "empty in all rows shown, left out: two"
    middle = shown_on_a_terminal(asked, *arguments, width=95)
    assert (middle[0].split(), middle[3:]) == (["one", "three"], [left_out, "1 row"])
    assert shown_on_a_terminal(asked, *arguments, width=80) == [
        "── row 1 " + "─" * 51,
        "one    " + "a" * 50,
        "three  " + "b" * 40,
        left_out,
        "1 row",
    ]


def test_bytes_are_not_written_to_a_terminal(asked):
    child = on_a_terminal(asked, "sql", "--team", "energy", "select 1", "--format", "xlsx")
    child.expect("xlsx is not for a terminal: add --output FILE")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 2


def test_tables_are_listed_with_what_they_are_and_those_of_others_named(asked):
    listed = wattbook(asked, "tables", "--team", "energy")
    assert [line.split() for line in listed.stdout.splitlines()[2:]] == [
        ["dim_sites", "1", "Sites"],
        ["fct_long", "100"],
        ["fct_wide", "1"],
    ]
    assert listed.stderr == "fct_prices: for finance alone\n"
    columns = wattbook(asked, "tables", "dim_sites", "--team", "energy")
    assert [line.split() for line in columns.stdout.splitlines()[2:]] == [
        ["site_id", "varchar"],
        ["mw", "decimal(2,1)", "Connection."],
    ]
    misspelt = wattbook(asked, "tables", "dim_site", "--team", "energy")
    assert (misspelt.exit_code, misspelt.stderr) == (
        *(1, "error: table dim_site does not exist: did you mean dim_sites?\n"),
    )
    other = wattbook(asked, "tables", "fct_prices", "--team", "energy")
    assert other.stderr == "error: table fct_prices is published for finance, not for this team\n"


def test_the_shell_answers_completes_cancels_and_remembers(asked, tmp_path):
    shell = on_a_terminal(asked, "sql", "--team", "energy", XDG_STATE_HOME=str(tmp_path))
    shell.expect("energy>")
    shell.send("select n + 1000\r")
    shell.send("from fct_lo\t")
    shell.expect("ng")
    shell.send(" where n = 7;\r")
    shell.expect("1,007")
    shell.expect("1 row")
    shell.expect("energy>")
    shell.send("from fct_lon;\r")
    shell.expect("did you mean fct_long")
    shell.expect("energy>")
    shell.send("\\d dim_sites\r")
    shell.expect("Connection")
    shell.expect("energy>")
    shell.send("select sum(sin(a.range * b.range)) from range(1000000) a, range(1000000) b;\r")
    time.sleep(2)
    shell.sendintr()
    shell.expect("cancelled")
    shell.expect("energy>")
    shell.send("\\q\r")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 0
    history = tmp_path / "wattbook" / "sql_history"
    assert "+from fct_long where n = 7;" in history.read_text().splitlines()
    assert history.stat().st_mode & 0o777 == 0o600


def test_the_data_directory_comes_from_the_environment(book, monkeypatch):
    monkeypatch.setenv("WATTBOOK_DATA_DIR", str(book.data_dir))
    result = CliRunner().invoke(app, ["sql", "--team", "energy", "select 1"])
    assert str(book.data_dir) in result.stderr


def test_numbers_and_times_are_shown_as_people_read_them():
    shown = [query.show(value) for value in (None, True, 1234567, 1234.5678, 0.0123456, 0.0, "x")]
    assert shown == ["-", "yes", "1,234,567", "1,234.568", "0.0123", "0.000", "x"]


@pytest.fixture
def steps(monkeypatch):
    """What a command calls, in its order, each step replaced by one that only tells of itself."""
    called = []
    monkeypatch.setattr(
        landing, "simulate", lambda folder, *, until, progress: called.append(("simulate", until))
    )
    monkeypatch.setattr(
        lake,
        "load",
        lambda book, **_: called.append(("load",)) or lake.LoadSummary(1, 0, 0, 0, 0),
    )
    monkeypatch.setattr(
        warehouse,
        "build",
        lambda book, dates, as_of, progress: (
            called.append(("build", dates, as_of))
            or warehouse.BuildResult(book.warehouse, is_built=True, dates=(date(2026, 10, 1),))
        ),
    )
    monkeypatch.setattr(publishing, "is_current", lambda book: ("publish",) in called)
    monkeypatch.setattr(
        publishing,
        "publish",
        lambda book, progress: called.append(("publish",)) or {"energy": ["dim_sites"]},
    )
    monkeypatch.setattr(
        cli,
        "_recorder",
        lambda book: nullcontext(
            SimpleNamespace(
                record=lambda book, dates, command: called.append(("record", dates, command)),
                record_load=lambda book, command: called.append(("record load", command)),
                record_packs=lambda book, published, _, command: called.append(
                    ("record packs", published[0].week, command)
                ),
            )
        ),
    )
    monkeypatch.setattr(week, "last_weeks", lambda book, count: WEEKS[-count:])
    monkeypatch.setattr(
        pack,
        "publish",
        lambda book, week, teams, progress: [
            called.append(("pack", week, team))
            or PublishedPack(team, week, book.published, 1, 0, is_new=True)
            for team in teams
        ],
    )
    monkeypatch.setattr(week, "latest", lambda book: [f"the week of {book.data_dir.name}"])
    return called


WEEKS = [f"2026-W{number}" for number in range(38, 45)]
RUN = [
    ("load",),
    ("build", None, None),
    ("publish",),
    ("record", (date(2026, 10, 1),), "wattbook run"),
]


def test_run_loads_builds_publishes_and_shows_the_week(book, steps):
    first = wattbook(book, "run")
    assert (first.exit_code, steps) == (0, RUN)
    assert first.stdout.splitlines() == [
        "loaded 1, skipped 0, partly loaded 0 (0 rows quarantined), failed 0",
        f"built 1 days in {book.warehouse}: 0 models, 0 tests",
        f"published {book.published}/energy.duckdb: 1 tables",
        "the week of data",
    ]
    second = wattbook(book, "run")
    assert second.stdout.splitlines()[2:] == ["nothing new to publish", "the week of data"]


def test_run_goes_on_where_nothing_is_built_and_records_nothing(book, steps, monkeypatch):
    nothing = warehouse.BuildResult(book.warehouse, is_built=False, warnings=["test x: 2 rows"])
    monkeypatch.setattr(warehouse, "build", lambda *_: nothing)
    result = wattbook(book, "run")
    assert (result.exit_code, steps) == (0, [("load",), ("publish",)])
    assert result.stdout.splitlines()[1] == "nothing new to build"
    assert "warning: test x: 2 rows" in result.stderr.splitlines()


@pytest.mark.parametrize(
    "summary", [lake.LoadSummary(1, 0, 1, 0, 2), lake.LoadSummary(1, 0, 0, 1, 0)]
)
def test_run_does_everything_and_fails_where_something_was_refused(
    book, steps, monkeypatch, summary
):
    monkeypatch.setattr(lake, "load", lambda book, **_: steps.append(("load",)) or summary)
    result = wattbook(book, "run")
    assert (result.exit_code, steps) == (1, RUN)
    assert result.stdout.splitlines()[-1] == "the week of data"


def test_what_is_refused_and_what_no_longer_is_is_told_to_dagster_before_anything_is_built(
    book, steps, monkeypatch
):
    others = iter([True, False, True])

    def load(_: Book, **__: object) -> lake.LoadSummary:
        steps.append(("load",))
        return lake.LoadSummary(1, 0, 0, 0, 0, refuses_others=next(others))

    monkeypatch.setattr(lake, "load", load)
    monkeypatch.setattr(
        warehouse, "build", lambda *_: warehouse.BuildResult(book.warehouse, is_built=False)
    )
    for command in ("run", "load", "load"):
        wattbook(book, command)
    assert [step for step in steps if step[0] in ("load", "record load")] == [
        ("load",),
        ("record load", "wattbook run"),
        ("load",),
        ("load",),
        ("record load", "wattbook load"),
    ]


def test_demo_simulates_runs_and_draws_the_packs_of_the_last_weeks(book, steps):
    packs = [
        step
        for name in WEEKS[-4:]
        for step in (
            *(("pack", name, team) for team in query.TEAMS),
            ("record packs", name, "wattbook demo"),
        )
    ]
    run = [*RUN[:-1], ("record", (date(2026, 10, 1),), "wattbook demo")]
    until = datetime(2026, 11, 3, tzinfo=UTC)
    assert wattbook(book, "demo").exit_code == 0
    assert steps == [("simulate", until), *run, *packs]
    steps.clear()
    assert wattbook(book, "demo", "--until", "2026-05-01T02:00+02:00").exit_code == 0
    assert steps == [("simulate", datetime(2026, 5, 1, tzinfo=UTC)), *run, *packs]


def test_build_is_of_the_days_named_or_of_an_instant(book, steps):
    for arguments in (
        ["--from", "2026-10-01", "--to", "2026-10-03"],
        ["--from", "2026-10-01"],
        ["--to", "2026-10-02"],
        ["--as-of", "2026-10-05"],
    ):
        assert wattbook(book, "build", *arguments).exit_code == 0
    october = [date(2026, 10, day) for day in (1, 2, 3)]
    assert steps == [
        ("build", october, None),
        ("build", october[:1], None),
        ("build", october[1:2], None),
        ("build", None, datetime(2026, 10, 5, tzinfo=UTC)),
    ]
