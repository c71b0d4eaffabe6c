"""The checks on what was loaded, as Dagster shows them beside the raw tables.

What belongs here: asset checks that no dbt test makes. What does not: the data tests of the models,
which dbt declares, deciding which rows are right (`pipelines/lake/quarantine.py`), and which of
them break a rule (the dbt mart `fct_findings`).
"""

from collections.abc import Iterator

import dagster as dg
import duckdb
import polars as pl

from pipelines.lake.quarantine import quarantined
from pipelines.lake.schemas import RAW_TABLES
from pipelines.orchestration.assets import markdown
from pipelines.orchestration.resources import BookResource
from pipelines.reference.project import finding_rules

FINDINGS = dg.AssetKey(["marts", "fct_findings"])


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "nothing_quarantined",
            asset=["raw", table],
            description="No row of the files in landing was set aside.",
        )
        for table in sorted(RAW_TABLES)
    ]
)
def quarantine(book: BookResource) -> Iterator[dg.AssetCheckResult]:
    """Rows that were refused, by file and reason; a warning, since the others were loaded."""
    for table in sorted(RAW_TABLES):
        reasons = quarantined(book.book, table)
        yield dg.AssetCheckResult(
            asset_key=["raw", table],
            check_name="nothing_quarantined",
            passed=reasons.is_empty(),
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "quarantined_row_count": int(reasons["row_count"].sum()),
                "reasons": dg.MetadataValue.md(markdown(reasons.head(50))),
            },
        )


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            rule["rule_id"],
            asset=["raw", rule["source_table"]],
            additional_deps=[FINDINGS],
            description=(
                "Nothing breaks the rule. What does is kept out of all figures."
                if rule["is_withheld"]
                else "Nothing breaks the rule. What does is told, and nothing is taken out."
            ),
        )
        for rule in finding_rules()
    ]
)
def findings(book: BookResource) -> Iterator[dg.AssetCheckResult]:
    """What breaks a rule, by subject and time; a warning, since all else was built."""
    with duckdb.connect(str(book.book.warehouse.resolve()), read_only=True) as connection:
        found = connection.sql(
            "select rule_id, site_id, subject_id, started_at, ended_at, occurrence_count,"
            " found_quantity, found_quantity_unit, expected, source_files, mend"
            " from marts.fct_findings"
            " order by started_at desc, site_id, subject_id"
        ).pl()
    for rule in finding_rules():
        own = found.filter(rule_id=rule["rule_id"]).drop("rule_id")
        yield dg.AssetCheckResult(
            asset_key=["raw", rule["source_table"]],
            check_name=rule["rule_id"],
            passed=own.is_empty(),
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "finding_count": len(own),
                "findings": dg.MetadataValue.md(
                    markdown(own.head(50).with_columns(pl.col("source_files").list.join(", ")))
                ),
                "mend": rule["mend"],
            },
        )
