"""The checks on what was loaded, as Dagster shows them beside the raw tables.

What belongs here: asset checks that no dbt test makes. What does not: the data tests of the models,
which dbt declares, deciding which rows are right (`pipelines/lake/quarantine.py`), and which of
them break a rule (the dbt mart `fct_findings`).
"""

from collections.abc import Iterator

import dagster as dg
import duckdb
import polars as pl

from pipelines.book import Book
from pipelines.connectors import TABLES_OF
from pipelines.lake import read_load_records
from pipelines.lake.quarantine import quarantined
from pipelines.lake.records import FAILED
from pipelines.lake.schemas import RAW_TABLES
from pipelines.orchestration.resources import BookResource
from pipelines.reference.project import finding_rules

FINDINGS = dg.AssetKey(["marts", "fct_findings"])
FILES_READ_WHOLE = "files_read_whole"
ALL_FILES = "raw_loads"
MOST_ROWS, MOST_TOLD = 50, 5
MEND_FILE = "put a mended file in its place, or take it out of landing/, and load again"
MEND_ROWS = (
    "declare what is not declared and load again; or send a corrected file, and take this one out"
    " of landing/"
)


def table(rows: pl.DataFrame) -> dg.TableMetadataValue:
    """Rows as the UI shows a table, the first of them where they are many; a dash for nothing."""
    first = rows.head(MOST_ROWS).with_columns(pl.all().cast(pl.String).fill_null("-"))
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in first.to_dicts()],
        schema=dg.TableSchema([dg.TableColumn(name) for name in rows.columns]),
    )


file_specs = [
    dg.AssetCheckSpec(
        FILES_READ_WHOLE,
        asset=["raw", name],
        description=f"Every file {of_what} was read, and every row of it kept. It fails where a"
        " file was refused and warns where rows were, and says which, why and what mends it. All"
        " else was loaded.",
    )
    for name, of_what in (
        *((name, f"in landing that may hold {name}") for name in sorted(RAW_TABLES)),
        (ALL_FILES, "in landing"),
    )
]


def files_read_whole(book: Book) -> dict[str, dg.AssetCheckResult]:
    """Per raw table, and for all together, what was refused of the files in landing."""
    failed = read_load_records(book).filter(status=FAILED)
    files = failed.select(
        "format", file="source_file", rows=pl.lit("all"), reason="reason", mend=pl.lit(MEND_FILE)
    )
    rows = {name: quarantined(book, name) for name in RAW_TABLES}
    results = {ALL_FILES: _read_whole(ALL_FILES, files, pl.concat(rows.values()))}
    for name in RAW_TABLES:
        formats = [one for one, tables in TABLES_OF.items() if name in tables]
        of_table = files.filter(pl.col("format").is_in(formats))
        results[name] = _read_whole(name, of_table, rows[name])
    return results


def _read_whole(name: str, files: pl.DataFrame, rows: pl.DataFrame) -> dg.AssetCheckResult:
    of_files = rows.select(
        file="source_file",
        rows=pl.col("row_count").cast(pl.String),
        reason="reason",
        mend=pl.lit(MEND_ROWS),
    )
    refused = pl.concat([files.drop("format"), of_files])
    told = [f"- {file}: {reason}" for file, reason in refused.select("file", "reason").rows()]
    counts: dict[str, dg.MetadataValue] = {
        "refused_file_count": dg.MetadataValue.int(len(files)),
        "refused_row_count": dg.MetadataValue.int(int(rows["row_count"].sum())),
    }
    return dg.AssetCheckResult(
        asset_key=["raw", name],
        check_name=FILES_READ_WHOLE,
        passed=not told,
        severity=dg.AssetCheckSeverity.WARN if files.is_empty() else dg.AssetCheckSeverity.ERROR,
        description="\n".join(told[:MOST_TOLD]) or "Everything was read.",
        metadata={"refused": table(refused), **counts} if told else counts,
    )


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            rule["rule_id"],
            asset=["raw", rule["source_table"]],
            additional_deps=[FINDINGS],
            description=rule["description"]
            + (
                " What breaks the rule is kept out of all figures until it is mended."
                if rule["is_withheld"]
                else " What breaks the rule is told, and nothing is taken out of the figures."
            ),
        )
        for rule in finding_rules()
    ],
    can_subset=True,
)
def findings(
    context: dg.AssetCheckExecutionContext, book: BookResource
) -> Iterator[dg.AssetCheckResult]:
    """What breaks a rule, by subject and time; a warning, since all else was built."""
    if not book.book.warehouse.exists():
        context.log.warning("Nothing was built yet: the rules are checked once fct_findings is.")
        return
    for result in broken_rules(book.book):
        assert result.asset_key is not None
        assert result.check_name is not None
        key = dg.AssetCheckKey(result.asset_key, result.check_name)
        if key in context.selected_asset_check_keys:
            yield result


def broken_rules(book: Book) -> Iterator[dg.AssetCheckResult]:
    """Of each rule of findings what breaks it, as the warehouse has it."""
    with duckdb.connect(str(book.warehouse.resolve()), read_only=True) as connection:
        found = connection.sql(
            "select rule_id, site_id, subject_id, started_at, ended_at, occurrence_count,"
            " found_quantity, found_quantity_unit, expected, source_files"
            " from marts.fct_findings"
            " order by started_at desc, site_id, subject_id"
        ).pl()
    for rule in finding_rules():
        own = found.filter(rule_id=rule["rule_id"]).drop("rule_id")
        metadata: dict[str, dg.MetadataValue] = {
            "finding_count": dg.MetadataValue.int(len(own)),
            "mend": dg.MetadataValue.text(rule["mend"]),
        }
        if not own.is_empty():
            times = pl.col("started_at", "ended_at").dt.strftime("%Y-%m-%d %H:%M UTC")
            metadata["findings"] = table(
                own.with_columns(times, pl.col("source_files").list.join(", "))
            )
        yield dg.AssetCheckResult(
            asset_key=["raw", rule["source_table"]],
            check_name=rule["rule_id"],
            passed=own.is_empty(),
            severity=dg.AssetCheckSeverity.WARN,
            metadata=metadata,
        )
