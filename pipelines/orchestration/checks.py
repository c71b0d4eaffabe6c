"""The checks on what was loaded, as Dagster shows them beside the raw tables.

What belongs here: asset checks that no dbt test makes. What does not: the data tests of the models,
which dbt declares, and deciding which rows are right (`pipelines/lake/quarantine.py`).
"""

from collections.abc import Iterator

import dagster as dg

from pipelines.lake.quarantine import quarantined
from pipelines.lake.schemas import RAW_TABLES
from pipelines.orchestration.assets import markdown
from pipelines.orchestration.resources import BookResource


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
