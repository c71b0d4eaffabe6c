"""The command `wattbook`.

What belongs here: reading arguments, showing progress, results and errors. What does not: doing the
work, which the functions of the other modules do, the same that the Dagster assets call.

Exit status: 0 done, 1 failed, 2 wrong use; 1 also where files or rows were refused, though all the
others were loaded. Errors go to standard error, one cause a line. Modules are imported where a
command needs them, so that `wattbook sql` and `--help` answer at once.
"""

import os
import pydoc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, cast

import duckdb
import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from pipelines.book import Book
from pipelines.bucket import LAKE_VARIABLE
from pipelines.errors import BookError

if TYPE_CHECKING:
    from pipelines.pack.delivery import Channels
    from pipelines.reference import Reference
    from pipelines.warehouse import BuildResult

DATA_DIR_VARIABLE = "WATTBOOK_DATA_DIR"
DEMO_UNTIL = "2026-11-03T00:00Z"
DEMO_PACK_WEEKS = 4
ROWS_ON_A_TERMINAL = 40

# Not a terminal, not folded: what is piped elsewhere keeps one row a line.
out = Console(width=None if sys.stdout.isatty() else 400, highlight=False)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 400)


class Team(StrEnum):
    """Teams that a book is published for."""

    energy = "energy"
    finance = "finance"
    operations = "operations"


class Form(StrEnum):
    """How `wattbook sql` shows its answer."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"
    xlsx = "xlsx"


class Commands(TyperGroup):
    """Turns what a person can mend into one line per cause and exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors of the program itself keep their traceback."""
        try:
            return super().invoke(ctx)
        except BookError as error:
            lines = list(error.lines())
        except BrokenPipeError as error:
            # Who reads has enough; Python would complain again when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from error
        except (OSError, duckdb.IOException) as error:
            lines = list(BookError([str(error)]).lines())
        for line in lines:
            err.print(Text("error: ", "bold red") + Text(line), soft_wrap=True)
        raise typer.Exit(1)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Wattbook: the shared energy book of organizations that run AI compute.\n\n"
    "Files in landing/ are loaded into the lake, built into the warehouse and published per team.",
)


@app.callback()
def choose_book(
    context: typer.Context,
    data_dir: Annotated[
        Path,
        typer.Option(
            envvar=DATA_DIR_VARIABLE,
            file_okay=False,
            help="Where the book lives: landing, lake, warehouse, published.",
        ),
    ] = Path("data"),
) -> None:
    """Choose the book that the command works on."""
    context.obj = Book(data_dir.resolve(), os.environ.get(LAKE_VARIABLE))


def _instant(text: str | None) -> datetime | None:
    """An ISO 8601 instant; a date is its first instant, and UTC where no zone is given."""
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"found {text!r}, expected a date or time as 2026-10-05 or 2026-10-05T12:00Z"
        ) from error
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"found {text!r}, expected a date as 2026-10-05") from error


UntilOption = Annotated[
    str,
    typer.Option(help="Write what is known before this time (UTC).", metavar="TIME"),
]


@app.command()
def demo(context: typer.Context, until: UntilOption = DEMO_UNTIL) -> None:
    """Simulate three sites, run the pipeline on their files and draw the last weeks' packs."""
    from pipelines.published import week

    _simulate(context.obj, until)
    _run(context)
    for one in week.last_weeks(context.obj, DEMO_PACK_WEEKS):
        _draw_packs(context, one)


@app.command()
def simulate(context: typer.Context, until: UntilOption = DEMO_UNTIL) -> None:
    """Write the files of three simulated sites into landing/, and their truth into truth/."""
    _simulate(context.obj, until)


@app.command()
def load(
    context: typer.Context,
    checksums: Annotated[
        bool,
        typer.Option(
            "--checksums",
            help="Compare the bytes of every lake file with what was written, not its size alone.",
        ),
    ] = False,
) -> None:
    """Load what is new in landing/ into the lake; say what was skipped, refused or failed.

    What was deleted from landing/ is out of the next build; the rows stay in the lake, for books as
    of an earlier time. It is in again once the file is back. Not so where a folder that held
    several files is there and empty, or cannot be read; nor where landing_kept_days of
    organization.yml have passed since the file was loaded.
    """
    if not _load(context, with_checksums=checksums):
        raise typer.Exit(1)


@app.command()
def pull(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Names in sources.yml; all unless given.", metavar="[SOURCE]..."),
    ] = None,
) -> None:
    """Ask the sources of sources.yml for what is new, and land what they answer as it came.

    Each is asked from where it was left, with some overlap for what came late. One that fails keeps
    no other back. `wattbook load` loads what has landed.
    """
    from pipelines import pulls

    with _step("pull") as report:
        outcomes = pulls.pull(context.obj, sources or (), progress=report)
    if not outcomes:
        out.print("no source to pull: name them in sources.yml")
    for outcome in outcomes:
        out.print(f"{outcome.source}: {outcome.landed} landed, {outcome.unchanged} as they were")
    causes = [cause for outcome in outcomes for cause in outcome.causes]
    if causes:
        raise BookError(causes)


@app.command()
def withdraw(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            help="Paths below landing/ or load ids, as in raw_loads.", metavar="FILE..."
        ),
    ],
    undo: Annotated[
        bool, typer.Option("--undo", help="Bring files that were withdrawn back into the book.")
    ] = False,
) -> None:
    """Take files out of the next build, whether they lie in landing/ or not.

    Their rows stay in the lake, for books as of an earlier time.
    """
    from pipelines import lake

    changed = lake.withdraw(context.obj, files, is_back=undo)
    what = "is in the book again" if undo else "is out of the book"
    for name, row_count in changed.select("source_file", "row_count").iter_rows():
        out.print(f"{name} ({row_count} rows) {what} from the next build on", soft_wrap=True)


@app.command()
def build(
    context: typer.Context,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="First UTC day to build.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="Last UTC day to build.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Build a second book beside the current one, as things were known then.",
        ),
    ] = None,
) -> None:
    """Build the warehouse for the days that new data touched, or for those named."""
    _build(context.obj, _days(_day(first), _day(last)), _instant(as_of))


def _days(first: date | None, last: date | None) -> list[date] | None:
    if first is None and last is None:
        return None
    start, end = first or last, last or first
    assert start is not None
    assert end is not None
    if end < start:
        raise typer.BadParameter(f"--from {start} is after --to {end}")
    return [start + timedelta(days=offset) for offset in range((end - start).days + 1)]


@app.command()
def publish(context: typer.Context) -> None:
    """Write what each team may see into published/."""
    _publish(context.obj)


@app.command()
def health(
    context: typer.Context,
    hours: Annotated[float, typer.Option(help="How old what teams read may be.")] = 30,
) -> None:
    """Say how old what teams read is; exit status 1 where that is more than it may be."""
    from pipelines.published import publishing

    published_at = publishing.published_at(context.obj)
    if published_at is None:
        raise BookError([f"{context.obj.published}: not published yet: run `wattbook run` first"])
    age = (datetime.now(UTC) - published_at) / timedelta(hours=1)
    said = f"published at {published_at:%Y-%m-%dT%H:%MZ}, {age:.1f} hours ago"
    if age > hours:
        raise BookError([f"{said}, expected {hours:g} at most: see the last runs"])
    out.print(said)


@app.command()
def run(context: typer.Context) -> None:
    """Load, build and publish whatever is new, and show the latest full week."""
    _run(context)


TeamOption = Annotated[Team, typer.Option(help="Whose published book to ask.")]


@app.command()
def sql(
    context: typer.Context,
    team: TeamOption,
    statement: Annotated[
        str | None,
        typer.Argument(
            help="One SQL statement, or - for standard input; without one a shell opens on a"
            " terminal, and standard input is read elsewhere.",
        ),
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="How to show the answer.")] = Form.table,
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="How many rows a table shows: 40 on a terminal unless given, else all.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File to write the answer to.")
    ] = None,
) -> None:
    """Ask the published book of a team.

    Tables are in schema marts, which may be left out; `wattbook tables` lists them. On a terminal,
    a table too wide for it leaves out columns that are empty in all rows shown, and where that is
    not enough shows each row as a record. Times are UTC; xlsx says so in the header.

    wattbook sql --team finance "select * from dim_sites"

    wattbook sql --team finance "from dim_contracts" --format xlsx --output contracts.xlsx
    """
    from pipelines.published import query

    limit = _limit(rows)
    on_terminal = sys.stdout.isatty() and output is None
    if form in (Form.parquet, Form.xlsx) and on_terminal:
        raise typer.BadParameter(f"{form.value} is not for a terminal: add --output FILE")
    if statement is None and sys.stdin.isatty():
        if not on_terminal or form is not Form.table:
            raise typer.BadParameter("found no statement: give one, or pipe it in")
        from pipelines.published import shell

        shell.run(
            context.obj,
            team.value,
            ask=lambda text: _show_rows(context.obj, team, text, limit),
            describe=lambda name: _show_tables(context.obj, team, name),
        )
        return
    text = sys.stdin.read() if statement in (None, "-") else statement
    assert text is not None
    if form is Form.table and on_terminal:
        _show_rows(context.obj, team, text, limit)
    elif form is Form.table:
        _write_lines(context.obj, team, text, limit, output)
    else:
        with err.status("asking") as status:
            answer = query.run_sql(context.obj, team.value, text)
            status.update(f"writing {answer.height:,} rows as {form.value}")
            if form is Form.xlsx:
                from pipelines.published import excel

                content = excel.encode(answer)
            else:
                content = query.encode(answer, cast(query.Format, form.value))
        if output is not None:
            output.write_bytes(content)
        else:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()


def _limit(rows: str | None) -> int | None:
    """How many rows to show; None for all."""
    if rows is None:
        return ROWS_ON_A_TERMINAL if sys.stdout.isatty() else None
    if rows == "all":
        return None
    if not rows.isdecimal():
        raise typer.BadParameter(f"found --rows {rows!r}, expected a number or all")
    return int(rows)


def _show_rows(book: Book, team: Team, text: str, limit: int | None) -> None:
    """Show an answer on the terminal, through its pager where it is longer than that."""
    from pipelines.published import display, query

    with query.opened(book, team.value) as connection:
        found, count = query.first_rows(connection, text, limit)
    shown, left_out = display.fitted(found, out.width)
    if left_out:
        shown.append(f"empty in all rows shown, left out: {', '.join(left_out)}")
    shown.append(_said_of_rows(len(found.values), count))
    _page(shown)


def _page(lines: Sequence[str]) -> None:
    """Print lines, through the pager (PAGER, else less) where the terminal has fewer."""
    text = "\n".join(lines) + "\n"
    if len(lines) < out.height:
        print(text, end="")
        return
    # Leave what was read on the screen.
    os.environ.setdefault("LESS", "FRX")
    pydoc.pager(text)


def _said_of_rows(shown: int, count: int | None) -> str:
    if count is None:
        return f"first {shown:,} rows; there are more than could be counted soon: see --rows"
    if count > shown:
        return f"first {shown:,} of {count:,} rows, {count - shown:,} more: see --rows"
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def _write_lines(book: Book, team: Team, text: str, limit: int | None, output: Path | None) -> None:
    """Write an answer as text, one row a line and whole."""
    from pipelines.published import display, query

    with query.opened(book, team.value) as connection, ExitStack() as stack:
        if limit is None:
            lines = display.lines(query.batches(connection, text, query.ROWS_AT_ONCE))
        else:
            lines = display.lines([query.first_rows(connection, text, limit)[0]])
        first = next(lines)
        file = sys.stdout if output is None else stack.enter_context(output.open("w"))
        for line in chain([first], lines):
            file.write(line + "\n")


@app.command()
def tables(
    context: typer.Context,
    team: TeamOption,
    name: Annotated[str | None, typer.Argument(help="A table, for its columns.")] = None,
) -> None:
    """List what a team may ask: tables with their rows, or the columns of one.

    wattbook tables --team finance

    wattbook tables kpi_site_weekly --team finance
    """
    _show_tables(context.obj, team, name)


def _show_tables(book: Book, team: Team, name: str | None) -> None:
    from pipelines.published import catalog, display, query

    with query.opened(book, team.value) as connection:
        listed = catalog.tables(connection) if name is None else catalog.columns(connection, name)
        others = query.of_other_teams(connection) if name is None else {}
    if sys.stdout.isatty():
        shown = display.described(listed, out.width)
        shown += [f"{one}: for {' and '.join(teams)} alone" for one, teams in others.items()]
        _page(shown)
        return
    for line in display.lines([listed]):
        print(line)
    for one, teams in others.items():
        print(f"{one}: for {' and '.join(teams)} alone", file=sys.stderr)


@app.command("statement")
def show_statement(
    context: typer.Context,
    contract: Annotated[str, typer.Argument(help="Contract, as in reference/contracts.")],
    month: Annotated[str, typer.Argument(help="The contract's local month, as 2026-09.")],
    team: Annotated[Team, typer.Option(help="Whose published book to ask.")] = Team.finance,
    output: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder of the files; published/statements of the book unless given.",
        ),
    ] = None,
) -> None:
    """Print what a contract comes to in a month; write it as CSV and HTML, as an invoice reads."""
    from pipelines.published import statement

    try:
        first_day = statement.parse_month(month)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    found = statement.read(context.obj, team.value, contract, first_day)
    for part in statement.table(found):
        out.print(part)
    folder = output or context.obj.published / "statements"
    _hand_over(context.obj, team, statement.write(found, folder))


@app.command("pack")
def draw_pack(
    context: typer.Context,
    week: Annotated[
        str | None,
        typer.Option(metavar="WEEK", help="ISO week, as 2026-W44; by default the last full one."),
    ] = None,
    team: Annotated[
        Team | None, typer.Option(help="Whose pack to draw; every team's unless given.")
    ] = None,
    send: Annotated[
        bool,
        typer.Option("--send", help="Send the operations pack by mail and webhook, once each."),
    ] = False,
) -> None:
    """Publish the weekly pack: a page and a JSON file per team; later changes as a revision.

    The Dagster UI shows the packs of a week where every team's were drawn.
    """
    from pipelines.pack import delivery
    from pipelines.published import query

    if send and team not in (None, Team.operations):
        raise typer.BadParameter("--send is for the operations pack: leave --team out")
    channels = delivery.channels(os.environ) if send else {}
    if send and not channels:
        expected = "expected WATTBOOK_SMTP_HOST or WATTBOOK_WEBHOOK_URL"
        raise delivery.DeliveryError([f"no channel is set, {expected}: see .env.example"])
    teams = query.TEAMS if team is None else (team.value,)
    _draw_packs(context, week, teams, channels)


@app.command("report")
def show_report(
    context: typer.Context,
    site: Annotated[str, typer.Argument(help="Site, as in reference/sites.")],
    year: Annotated[int, typer.Argument(help="The site's calendar year, as 2026.")],
    team: Annotated[Team, typer.Option(help="Whose published book to ask.")] = Team.energy,
    output: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder of the files; published/reports of the book unless given.",
        ),
    ] = None,
) -> None:
    """Print a site's yearly EU 2024/1364 data-centre report; write it as CSV and HTML."""
    from pipelines.published import report

    found = report.read(context.obj, team.value, site, year)
    for part in report.table(found):
        out.print(part)
    folder = output or context.obj.published / "reports"
    _hand_over(context.obj, team, report.write(found, folder))


@app.command()
def init(
    context: typer.Context,
    answers_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            dir_okay=False,
            metavar="FILE",
            help="Take the answers from this file instead of asking.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace reference files that are there.")
    ] = False,
) -> None:
    """Begin a book: ask what there is, write its reference files, say which files land where.

    What is not there is left out. The answers are kept in answers.yml of the book: correct them
    there and run it again with --from and --force, or change the reference files themselves.

    wattbook --data-dir ~/book init
    """
    from pipelines import reference
    from pipelines.onboarding import beginning, questions

    book = context.obj
    if answers_file is None:
        beginning.refuse_known(book.reference, is_forced=force)
        print(
            "Enter takes what stands in brackets, or nothing. What was typed wrong can be corrected"
            " afterwards, in answers.yml."
        )
        given = questions.ask(print)
        kept = beginning.write_answers(book.data_dir, given)
        print(f"wrote {kept}")
        answers = beginning.checked(given, kept)
    else:
        answers = beginning.read_answers(answers_file)
    for file in beginning.begin(book.reference, answers, is_forced=force):
        print(f"wrote {file}")
    print("What lands where, and who brings it:")
    for folder, what, is_pulled in beginning.landing(answers):
        # A cluster's name may be no name of a folder.
        (book.landing / folder.partition("/")[0]).mkdir(parents=True, exist_ok=True)
        print(f"{book.landing / folder} ({'wattbook pull' if is_pulled else 'you'}): {what}")
    _show_kpis(book, reference.load(book.reference))
    print("Next: put files there, then `wattbook validate`, then `wattbook run`.")


@app.command()
def validate(
    context: typer.Context,
    schemas: Annotated[
        bool,
        typer.Option("--schemas", help="First write the schemas that editors read to .schemas/."),
    ] = False,
) -> None:
    """Check reference data and configuration; say which KPIs of which site lack what.

    Nothing is written but what is asked for.
    """
    from pipelines import reference, warehouse
    from pipelines.published import audience

    book = context.obj
    if schemas:
        for file in reference.write_schemas(book.reference):
            out.print(f"wrote {file}")
    with _step("check"), tempfile.TemporaryDirectory() as scratch:
        declared = reference.load(book.reference)
        manifest = warehouse.parse(Book(Path(scratch)))
        audience.check_audiences(manifest)
    out.print(f"{book.reference}: nothing to mend")
    out.print(f"{warehouse.PROJECT_DIR}: nothing to mend")
    _show_kpis(book, declared)


def _show_kpis(book: Book, declared: "Reference") -> None:
    """Which KPIs of which site will be there, and what the others lack."""
    from pipelines import lake
    from pipelines.onboarding import needs, shown

    formats = needs.landed(book.landing)
    records = lake.read_load_records(book)
    formats |= {*records.filter(records["status"].is_in(lake.IN_BOOK))["format"]}
    kpis = needs.kpis_of_sites(declared, formats)
    out.print(shown.table(kpis))
    for line in shown.remedies(kpis):
        print(line)


def _hand_over(book: Book, team: Team, files: list[Path]) -> None:
    """Leave files that were written for a team to its group, and say where they are."""
    from pipelines.published import access

    group_id = access.groups(book).get(team.value)
    for file in files:
        access.restrict(file, group_id)
        out.print(f"wrote {file}")


def _simulate(book: Book, until: str) -> None:
    from pipelines.simulator import landing

    instant = _instant(until)
    assert instant is not None
    with _step("simulate") as report:
        landing.simulate(book.data_dir, until=instant, progress=report)


def _load(context: typer.Context, *, with_checksums: bool = False) -> bool:
    """Load; whether nothing was refused or lost."""
    from pipelines import lake

    book = context.obj
    with _step("load") as report:
        summary = lake.load(book, with_checksums=with_checksums, progress=report)
    out.print(
        f"loaded {summary.loaded}, skipped {summary.skipped}, partly loaded {summary.partial}"
        f" ({summary.quarantined_rows} rows quarantined), failed {summary.failed}"
    )
    for what, row_count, file_count in summary.left_out():
        out.print(f"left out {row_count} rows of {file_count} files: {what}", soft_wrap=True)
    for record in summary.records:
        if record.reason:
            print(f"{record.status}: {record.source_file}: {record.reason}", file=sys.stderr)
    for note in [*summary.notes, *(f"lost: {cause}" for cause in summary.lost)]:
        print(note, file=sys.stderr)
    if summary.refuses_others:
        with _recorder(book) as recorder:
            recorder.record_load(book, _command(context))
    return not (summary.failed or summary.partial or summary.lost)


def _build(
    book: Book, dates: list[date] | None = None, as_of: datetime | None = None
) -> "BuildResult":
    from pipelines import warehouse

    with _step("build") as report:
        result = warehouse.build(book, dates, as_of, report)
    if result.is_built:
        days = "all days" if result.dates is None else f"{len(result.dates)} days"
        out.print(
            f"built {days} in {result.warehouse}:"
            f" {result.model_count} models, {result.test_count} tests"
        )
    else:
        out.print("nothing new to build")
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return result


def _publish(book: Book) -> None:
    from pipelines.published import publishing

    with _step("publish") as report:
        tables = publishing.publish(book, report)
    for team, names in tables.items():
        out.print(f"published {book.published / team}.duckdb: {len(names)} tables")


def _draw_packs(
    context: typer.Context,
    week: str | None,
    teams: Sequence[str] | None = None,
    channels: "Channels | None" = None,
) -> None:
    """Draw a week's packs, every team's unless some are named; send operations' where it goes."""
    from pipelines import pack
    from pipelines.pack import delivery
    from pipelines.published import query

    book = context.obj
    with _step("pack") as report:
        published = pack.publish(book, week, teams or query.TEAMS, report)
    outcome = {}
    for one in published:
        page = one.folder / "index.html"
        if not one.is_new:
            out.print(f"{one.week} for {one.team}: nothing changed since {page}")
        elif one.revision == 1:
            out.print(f"{one.week} for {one.team}: wrote {page}")
        else:
            out.print(f"{one.week} for {one.team}: {one.change_count} changes: wrote {page}")
        if channels and one.team == Team.operations:
            outcome = delivery.deliver(book, one, channels)
            for name, what in outcome.items():
                out.print(f"{one.week} by {name}: {what}")
    is_whole = {one.team for one in published} == set(query.TEAMS)
    if is_whole and (channels or any(one.is_new for one in published)):
        with _recorder(book) as recorder:
            recorder.record_packs(book, published, outcome, _command(context))


def _run(context: typer.Context) -> None:
    from pipelines.published import publishing, week

    book = context.obj
    is_sound = _load(context)
    result = _build(book)
    if publishing.is_current(book):
        out.print("nothing new to publish")
    else:
        _publish(book)
    if result.is_built:
        with _recorder(book) as recorder:
            recorder.record(book, result.dates, _command(context))
    for part in week.latest(book):
        out.print(part)
    if not is_sound:
        raise typer.Exit(1)


def _command(context: typer.Context) -> str:
    return f"wattbook {context.info_name}"


@contextmanager
def _recorder(book: Book) -> Iterator[ModuleType]:
    """What lets the Dagster UI of the book show what was done without it."""
    from pipelines import warehouse

    with warehouse.variable(DATA_DIR_VARIABLE, book.data_dir), _step("record"):
        from pipelines.orchestration import record

        yield record


@contextmanager
def _step(title: str) -> Iterator[Callable[[str], None]]:
    """Show on standard error what is being done, and at the end how long it took."""
    started = time.monotonic()
    with err.status(title) as status:

        def report(text: str) -> None:
            status.update(f"{title}: {text}")

        yield report
    err.print(f"{title} {time.monotonic() - started:.1f} s", style="dim")
