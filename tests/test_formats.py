"""docs/formats: every example is what its page says it is, and every table what the readers know.

An example is a block under a comment with its place in landing, such as
`<!-- landing: nem12/may.csv -->`: all of it loads. What else is expected stands behind the place:
`, left out 2`, `, quarantined 1`, or `, refused` of the whole file. What it becomes stands below it
between `<!-- becomes -->` and `<!-- end -->`; tables of fields and codes that readers hold stand
between `<!-- table: name -->` and `<!-- end -->`. `python -m tests.test_formats` writes both into
the pages; a test compares them.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import polars as pl
import pytest
import yaml
from pydantic import TypeAdapter

from pipelines import warehouse
from pipelines.connectors import (
    FORMATS,
    certificates,
    electricity_maps,
    entsoe,
    focus,
    green_button,
    metrics,
    mscons,
    nem12,
    prices_csv,
    prometheus,
    sacct,
)
from pipelines.connectors.common import Context, UnreadableFile
from pipelines.connectors.mappings import Mappings, MetricMapping, ReadingsMapping
from pipelines.connectors.reading import Reader, file_sha256
from pipelines.lake.landing import LandedFile, rows_of
from pipelines.lake.quarantine import Declared, split
from pipelines.lake.schemas import PROVENANCE_COLUMNS, RAW_TABLES, columns_to_fill
from pipelines.reference import mappings, sources

INDEX = Path(__file__).parents[1] / "docs/formats.md"
PAGES = [INDEX, *sorted((INDEX.parent / "formats").glob("*.md"))]
LOADED_AT = datetime(2026, 7, 1, tzinfo=UTC)
CLUSTERS = {"alder": "Europe/Berlin", "kube": "Europe/Berlin"}

EXAMPLE = re.compile(
    r"<!-- landing: (?P<path>[^\s,]+)(?P<told>(?:, [a-z ]+\d*)*) -->\n"
    r"(?P<fence>```+)\w*\n(?P<text>.*?\n)(?P=fence)\n"
    r"(?:\n<!-- becomes -->\n(?P<becomes>.*?)<!-- end -->\n)?",
    re.DOTALL,
)
TABLE = re.compile(r"(<!-- table: ([\w ]+) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)
DECLARED_IN = re.compile(r"```yaml\n# in reference/mappings.yml\n(.*?)```", re.DOTALL)
CONTRACTS = ("battery_csv", "outages_csv", "certificates", "invoices", "readings_csv")
"""Formats of the book's own, whose readers tell their columns in a table."""
MOST_COLUMNS = 7
MOST_ROWS = 4
"""Of a table; of more the first are shown."""


@dataclass(frozen=True)
class Example:
    """A file of a page, and what the page says of it."""

    page: Path
    path: str
    told: str
    text: str
    becomes: str | None

    @property
    def format(self) -> str:
        return self.path.split("/")[0]


@dataclass(frozen=True)
class Outcome:
    """What a file comes to: rows of tables, and why others are not kept."""

    rows: Mapping[str, pl.DataFrame]
    left_out: list[str]
    quarantined: list[str]
    refused: str | None = None

    @property
    def told(self) -> str:
        counts = {"left out": len(self.left_out), "quarantined": len(self.quarantined)}
        parts = ["refused"] if self.refused is not None else []
        parts += [f"{what} {count}" for what, count in counts.items() if count]
        return "".join(f", {part}" for part in parts)


def examples() -> list[Example]:
    return [
        Example(page, one["path"], one["told"], one["text"], one["becomes"])
        for page in PAGES
        for one in EXAMPLE.finditer(page.read_text())
    ]


def outcomes(files: Sequence[Example]) -> dict[Example, Outcome]:
    """What files of one page come to in a book that declares what the page declares."""
    context = Context(CLUSTERS, _mappings(files[0].page))
    with TemporaryDirectory() as folder, Reader(context, columns_to_fill()) as reader:
        return {
            one: _outcome(one, Path(folder) / str(number), context, reader)
            for number, one in enumerate(files)
        }


@cache
def of_page(page: Path) -> dict[Example, Outcome]:
    """What the examples of a page come to."""
    found = [one for one in examples() if one.page == page]
    return outcomes(found) if found else {}


def _outcome(example: Example, folder: Path, context: Context, reader: Reader) -> Outcome:
    declared = Declared(
        digest="0" * 16,
        context=context,
        names={},
        first_day=datetime(2026, 1, 1, tzinfo=UTC),
        kept_days=None,
    )
    path = folder / example.path
    path.parent.mkdir(parents=True)
    path.write_text(example.text)
    content = path.read_bytes()
    sha256 = file_sha256(BytesIO(content), example.path)
    known = (LOADED_AT, LOADED_AT, 1)
    landed = LandedFile(path, example.path, example.format, sha256, len(content), *known)
    loaded = pl.DataFrame({"load_id": [landed.load_id], "first_loaded_at": [LOADED_AT]})
    try:
        parts = [(landed, part) for part in reader.read(path, example.path, sha256)]
    except UnreadableFile as error:
        return Outcome({}, [], [], str(error))
    rows: dict[str, pl.DataFrame] = {}
    left_out: list[str] = []
    quarantined: list[str] = []
    for table, frame in rows_of(parts, Counter()).items():
        good, bad, others = split(frame, RAW_TABLES[table], declared, loaded)
        rows[table] = good
        left_out.extend(others["reason"])
        quarantined.extend(bad["reason"])
    return Outcome(rows, left_out, quarantined)


def _mappings(page: Path) -> Mappings:
    told = mappings.Mappings.model_validate(
        {
            section: entries
            for block in DECLARED_IN.findall(page.read_text())
            for section, entries in yaml.safe_load(block).items()
        }
    ).model_dump(mode="json")
    return Mappings(
        TypeAdapter(list[ReadingsMapping]).validate_python(told["readings_csv"]),
        TypeAdapter(list[MetricMapping]).validate_python(told["metrics"]),
    )


def in_words(found: Outcome) -> str:
    """What a file comes to, in Markdown: the rows of each table, and why others are not kept."""
    parts = []
    if found.refused is not None:
        parts.append(f"Refused: {found.refused}\n")
    for table, rows in found.rows.items():
        if rows.height:
            count = "one row" if rows.height == 1 else f"{rows.height} rows"
            shown = rows if rows.height <= MOST_ROWS else rows.head(MOST_ROWS // 2)
            others = f", the first {shown.height}" if shown.height < rows.height else ""
            parts.append(f"{count.capitalize()} of `{table}`{others}:\n\n{_rows(shown)}")
    for what, reasons in (("Left out", found.left_out), ("Quarantined", found.quarantined)):
        if reasons:
            counted = Counter(reasons).items()
            parts.append("".join(f"- {what}, {n}: {reason}\n" for reason, n in counted))
    return "\n" + "\n".join(parts) + "\n"


def _rows(rows: pl.DataFrame) -> str:
    """The columns in which something stands, side by side, or below one another where many."""
    own = [name for name in rows.columns if name not in PROVENANCE_COLUMNS]
    if (rows["known_at"] != LOADED_AT).any():
        own.append("known_at")
    told = [name for name in own if rows[name].null_count() < rows.height]
    cells = {name: [_shown(value) for value in rows[name]] for name in told}
    if len(told) <= MOST_COLUMNS:
        return markdown(told, zip(*cells.values(), strict=True))
    return markdown(["column", *[""] * rows.height], ([f"`{name}`", *cells[name]] for name in told))


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")


def markdown(header: list[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _contract(format_name: str) -> str:
    """The table of columns in the docstring of a reader of CSV."""
    lines = str(import_module(f"pipelines.connectors.{format_name}").__doc__).splitlines()
    return "".join(f"{line}\n" for line in lines if line.startswith("|"))


def _gpu_metrics() -> str:
    rows = [
        (f"`{column}`", ", ".join(f"`{name}`" for name in names))
        for column, names in prometheus.GPU_METRICS.items()
    ]
    return markdown(["column", "metrics of dcgm-exporter, the one to prefer first"], rows)


def _other_metrics() -> str:
    rows = [
        (f"`{one.metric}`", one.quantity.replace("_", " "), one.unit,
         ", ".join(f"`{label.label}`" for label in one.hosts),
         ", ".join(f"`{label.label}`" for label in one.gpus))
        for one in metrics.BUILT_IN
    ]  # fmt: skip
    hosts = ", ".join(f"`{label}`" for label in prometheus._NODE_LABELS)
    rows += [
        (f"`{name}`", "node power", "W", hosts, "")
        for name in prometheus.NODE_POWER_METRICS
        if name != metrics.DECLARED_NODE_POWER
    ]  # fmt: skip
    return markdown(["metric", "what", "unit", "host", "GPU"], rows)


def _focus() -> str:
    columns = focus._TEXTS | focus._TIMES | focus._NUMBERS
    rows = [
        (f"`{name}`", f"`{column}`", "needed" if name in focus._MANDATORY else "")
        for name, column in columns.items()
    ]
    return markdown(["FOCUS column", "becomes", ""], rows)


def _by_meaning(codes: Mapping[str, str], header: list[str]) -> str:
    meant: dict[str, list[str]] = {}
    for code, meaning in codes.items():
        meant.setdefault(meaning, []).append(code)
    return markdown(header, ((", ".join(of), meaning) for meaning, of in meant.items()))


def _zones() -> str:
    return ", ".join(f"`{name}`" for name in entsoe.ZONES.values()) + "\n"


def _oasis() -> str:
    rows = [
        (run, market.replace("_", "-"), str(prices_csv._OASIS_SEQUENCES[run]))
        for run, market in prices_csv._OASIS_MARKETS.items()
    ]
    return markdown(["`MARKET_RUN_ID`", "`market`", "`sequence`"], rows)


def _pulls() -> dict[str, str]:
    """Kind of a source -> the landing folder of its answers, where it is always the same."""
    kinds = [one.model_fields["kind"].annotation for one in get_args(get_args(sources.Source)[0])]
    names = [get_args(kind)[0] for kind in kinds]
    modules = {name: import_module(f"pipelines.pulls.{name}") for name in names}
    return {
        name: module.FOLDER.split("/")[0]
        for name, module in modules.items()
        if hasattr(module, "FOLDER")
    }


TABLES: dict[str, Callable[[], str]] = {
    **{f"{name} columns": lambda name=name: _contract(name) for name in CONTRACTS},
    "gpu metrics": _gpu_metrics,
    "other metrics": _other_metrics,
    "focus columns": _focus,
    "nem12 quality": lambda: _by_meaning(nem12._QUALITY, ["flag", "`quality`"]),
    "mscons quality": lambda: _by_meaning(mscons._QUALITY, ["QTY qualifier", "`quality`"]),
    "green_button quality": lambda: _by_meaning(green_button._CLASS, ["ESPI code", "`quality`"]),
    "electricity_maps columns": lambda: _by_meaning(
        electricity_maps._COLUMNS, ["header, any case, ₂ or 2", "what"]
    ),
    "certificate sources": lambda: _by_meaning(
        certificates._ENERGY_SOURCES, ["`energy_source` of the registry", "of the book"]
    ),
    "entsoe zones": _zones,
    "oasis markets": _oasis,
}


def written(page: Path) -> str:
    """The page with what its examples become, and its tables, as they are now."""
    come_to = {one.path: found for one, found in of_page(page).items()}

    def with_outcome(found: re.Match[str]) -> str:
        if found["becomes"] is None:
            return found[0]
        before = found[0][: found.start("becomes") - found.start()]
        return f"{before}{in_words(come_to[found['path']])}<!-- end -->\n"

    text = TABLE.sub(
        lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[4]}", page.read_text()
    )
    return EXAMPLE.sub(with_outcome, text)


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.path)
def test_an_example_is_read_as_its_page_says(example):
    found = of_page(example.page)[example]
    assert found.told == example.told, [found.refused, *found.left_out, *found.quarantined]
    assert example.becomes is None or example.becomes == in_words(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_table_of_fields_is_what_the_reader_holds(page):
    for _, name, shown, _ in TABLE.findall(page.read_text()):
        assert shown == f"\n{TABLES[name]()}\n", name


def test_every_example_marked_and_every_table_held_is_taken():
    text = "".join(page.read_text() for page in PAGES)
    assert text.count("<!-- landing:") == len(examples())
    assert text.count("<!-- becomes -->") == sum(one.becomes is not None for one in examples())
    assert sorted(found[1] for found in TABLE.findall(text)) == sorted(TABLES)
    assert text.count("<!-- table:") == len(TABLES)


def test_every_format_has_a_section_with_an_example_that_loads():
    sections = re.findall(r"^## `(\w+)`", "".join(page.read_text() for page in PAGES), re.M)
    assert sorted(sections) == sorted(FORMATS)
    loads = {one.format for one in examples() if "refused" not in one.told}
    assert loads == set(FORMATS)


def index() -> dict[str, list[str]]:
    """Format -> its page, raw tables, marts and pull kinds, as the index has them."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in INDEX.read_text().splitlines()
        if line.startswith("| [`")
    ]
    return {re.findall(r"`(\w+)`", row[0])[0]: row for row in rows}


def test_the_index_names_every_format_with_its_section():
    assert sorted(index()) == sorted(FORMATS)
    for name, (link, *_) in index().items():
        page, anchor = re.findall(r"\((formats/\w+\.md)#(\w+)\)", link)[0]
        assert anchor == name
        assert f"## `{name}`\n" in (INDEX.parent / page).read_text()


def test_the_index_names_the_tables_that_examples_come_to():
    found: dict[str, set[str]] = {name: set() for name in FORMATS}
    for page in PAGES:
        for example, come_to in of_page(page).items():
            found[example.format] |= {name for name, rows in come_to.rows.items() if rows.height}
    assert {name: {*re.findall(r"`(\w+)`", row[2])} for name, row in index().items()} == found


def test_marts_of_the_index_are_built_from_these_tables():
    for name, row in index().items():
        below = set[str]()
        for table in re.findall(r"`(\w+)`", row[2]):
            below |= _below(table)
        assert {*re.findall(r"`(\w+)`", row[3])} <= below, name


def _below(table: str) -> set[str]:
    """The models that read a raw table, or models that do."""
    # Samples are rolled up before dbt reads them.
    start = {"gpu_samples": "node_intervals", "node_power_samples": "node_intervals"}
    readers: dict[str, set[str]] = {}
    for path in (warehouse.PROJECT_DIR / "models").rglob("*.sql"):
        for read in re.findall(r"(?:ref|source)\([^)]*?[\"'](\w+)[\"']\s*\)", path.read_text()):
            readers.setdefault(read, set()).add(path.stem)
    found: set[str] = set()
    ahead = [start.get(table, table)]
    while ahead:
        new = readers.get(ahead.pop(), set()) - found
        found |= new
        ahead += new
    return found


def test_the_index_names_the_kinds_of_sources_that_are_pulled():
    told = {kind: name for name, row in index().items() for kind in re.findall(r"`(\w+)`", row[4])}
    assert told == _pulls()


def test_the_sacct_table_has_the_fields_that_are_read():
    page = (INDEX.parent / "formats/jobs.md").read_text()
    table = page.partition("| field |")[2].partition("\n\n")[0]
    assert {*re.findall(r"`(\w+)`", "".join(re.findall(r"^\|[^|]*\|", table, re.M)))} == {
        *sacct.FIELDS
    }


@pytest.mark.parametrize("format_name", CONTRACTS)
def test_a_column_that_is_not_optional_is_needed(format_name):
    """Taken out of the example, the reader refuses the file and names it; others may go."""
    example = next(one for one in examples() if one.format == format_name)
    rows = [line.split(",") for line in example.text.splitlines()]
    expected = {}
    for names, what in re.findall(r"^\| (`.+?) \| (.+) \|$", _contract(format_name), re.M):
        for name in re.findall(r"`(\w+)`", names):
            place = rows[0].index(name)
            less = "".join(",".join(row[:place] + row[place + 1 :]) + "\n" for row in rows)
            short = Example(example.page, example.path, name, less, None)
            expected[short] = None if "optional" in what else f"column {name} not in the header"
    assert len(expected) == len(rows[0])
    for short, found in outcomes(list(expected)).items():
        told = expected[short]
        assert (told or "None") in str(found.refused), short.told


if __name__ == "__main__":
    for one in PAGES:
        one.write_text(written(one))
    sys.stdout.write(f"{len(PAGES)} pages written\n")
