"""The command line: exit status, errors one a line on standard error, what is printed."""

import subprocess
import sys

import duckdb
import pytest
from typer.testing import CliRunner

from pipelines import query
from pipelines.cli import app
from pipelines.settings import Book

COMMANDS = ["demo", "simulate", "load", "build", "publish", "run", "sql", "validate"]


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
        (["sql", "--team", "energy", "select 1"], "not published yet: run `wattbook run` first"),
    ],
)
def test_a_failure_exits_with_1_and_names_its_cause_on_one_line(book, arguments, cause):
    result = wattbook(book, *arguments)
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert cause in errors[0]


def test_a_mistake_in_the_reference_data_fails_validate_with_one_line_each(book):
    reference = book.data_dir / "reference"
    (reference / "sites").mkdir(parents=True)
    (reference / "organization.yml").write_text("organization_id: demo\ntime_zone: Mars/Base\n")
    result = wattbook(book, "validate")
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if "organization.yml" in line]
    assert not (book.data_dir / "lake").exists()


def test_the_projects_own_reference_data_is_valid(book):
    result = wattbook(book, "validate")
    assert (result.exit_code, result.stderr.splitlines()[:-1]) == (0, [])
    assert not book.data_dir.exists()


def test_a_warehouse_that_another_program_holds_open_is_an_error_of_one_line(book):
    book.data_dir.mkdir(parents=True)
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


def test_sql_prints_a_table_or_the_form_asked_for(book):
    book.published.mkdir(parents=True)
    with duckdb.connect(str(book.published / "energy.duckdb")) as connection:
        connection.execute("create schema marts")
        connection.execute("create table marts.dim_sites as select 'juelich' as site_id, 1.4 as mw")
    as_csv = wattbook(book, "sql", "--team", "energy", "from dim_sites", "--format", "csv")
    assert (as_csv.exit_code, as_csv.stdout) == (0, "site_id,mw\njuelich,1.4\n")
    as_table = wattbook(book, "sql", "--team", "energy", "from dim_sites")
    assert [word for word in ("site_id", "juelich", "1.4") if word not in as_table.stdout] == []


def test_the_data_directory_comes_from_the_environment(book, monkeypatch):
    monkeypatch.setenv("WATTBOOK_DATA_DIR", str(book.data_dir))
    result = CliRunner().invoke(app, ["sql", "--team", "energy", "select 1"])
    assert str(book.data_dir) in result.stderr


def test_numbers_and_times_are_shown_as_people_read_them():
    shown = [query.show(value) for value in (None, True, 1234567, 1234.5678, 0.0123456, 0.0, "x")]
    assert shown == ["-", "yes", "1,234,567", "1,234.568", "0.0123", "0.000", "x"]
