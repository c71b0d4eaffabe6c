"""The assets of the book, in the order of the way of the data, and the checks on what was loaded.

What belongs here: thin assets that call the functions the command line calls, and add what a person
wants to see beside the asset. What does not: parsing, loading, arithmetic; resources and partitions
(`dagster_resources.py`); jobs, schedules and sensors (`definitions.py`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import polars as pl
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, dbt_assets

from pipelines import lake, publish, reference, warehouse
from pipelines.dagster_resources import DAYS, BookResource, all_days, days_of, manifest
from pipelines.query import TEAMS
from pipelines.schemas import RAW_TABLES
from pipelines.settings import Book

ROLL_UPS = ("gpu_intervals", "node_intervals")
LOADED = (*RAW_TABLES, "job_nodes", "raw_loads")


class ModelsByFolder(DagsterDbtTranslator):
    """Shows dbt models in the group of their folder: staging, intermediate, marts."""

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The folder below models/."""
        return dbt_resource_props["fqn"][1]

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """The model's own description, without its SQL."""
        return dbt_resource_props["description"]


def _source_specs(group: str, names: set[str]) -> list[dg.AssetSpec]:
    """One asset per dbt source named, with its description and columns."""
    return [
        dg.AssetSpec(
            ["raw", source["name"]],
            group_name=group,
            description=source["description"],
            kinds={"parquet"},
            metadata={
                "dagster/column_schema": dg.TableSchema(
                    [
                        dg.TableColumn(
                            column["name"],
                            column.get("data_type") or "",
                            description=column["description"],
                        )
                        for column in source["columns"].values()
                    ]
                )
            },
        )
        for source in manifest()["sources"].values()
        if source["name"] in names
    ]


_SOURCES = {source["name"] for source in manifest()["sources"].values()} - {"built_loads"}
_LANDING = _SOURCES & set(LOADED)
_REFERENCE = _SOURCES - set(LOADED) - set(ROLL_UPS)


@dg.multi_asset(specs=_source_specs("landing", _LANDING))
def landing(book: BookResource) -> Iterator[dg.MaterializeResult]:
    """Load whatever is new in landing/ into the lake: one Parquet file per table and file."""
    summary = lake.load(book.book)
    for table in sorted(_LANDING):
        yield dg.MaterializeResult(["raw", table], metadata=_table_metadata(book.book, table))
    if summary.failed:
        reasons = [f"{r.source_file}: {r.reason}" for r in summary.records if r.status == "failed"]
        dg.get_dagster_logger().warning("Files that could not be read: %s", "; ".join(reasons))


@dg.multi_asset(specs=_source_specs("reference", _REFERENCE))
def reference_data(book: BookResource) -> Iterator[dg.MaterializeResult]:
    """Check the reference data and write it to the lake as flat tables."""
    reference.write_tables(book.book)
    for table in sorted(_REFERENCE):
        rows = pl.scan_parquet(book.book.lake / "reference" / f"{table}.parquet")
        count = rows.select(pl.len()).collect().item()
        yield dg.MaterializeResult(["raw", table], metadata={"dagster/row_count": count})


@dg.multi_asset(
    specs=[
        spec.replace_attributes(
            deps=[["raw", "gpu_samples"], ["raw", "node_power_samples"]], partitions_def=DAYS
        )
        for spec in _source_specs("lake", set(ROLL_UPS))
    ],
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def roll_ups(
    context: dg.AssetExecutionContext, book: BookResource
) -> Iterator[dg.MaterializeResult]:
    """Roll up telemetry to 15-minute intervals, for the days of the run."""
    todo = warehouse.plan(book.book, days_of(context))
    warehouse.roll_up(todo)
    for table in ROLL_UPS:
        yield dg.MaterializeResult(["raw", table], metadata=_table_metadata(book.book, table))


@dbt_assets(
    manifest=manifest(),
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    dagster_dbt_translator=ModelsByFolder(),
    name="models",
)
def models(
    context: dg.AssetExecutionContext, book: BookResource, dbt: DbtCliResource
) -> Iterator[Any]:
    """Build the dbt models for the days of the run; data tests report as asset checks."""
    todo = warehouse.plan(book.book, days_of(context), nameable=all_days())
    if context.is_subset:
        # A part of the models does not make the loads part of the book.
        todo = todo.without_load_ids()
    with warehouse.build_lock(book.book), warehouse.warehouse_variable(todo.warehouse):
        run = dbt.cli(
            todo.dbt_arguments, context=context, target_path=warehouse.dbt_dir(book.book) / "runs"
        )
        yield from run.stream().fetch_column_metadata()
        # Column metadata is asked for in this process, in which the file is then read to publish.
        if run.adapter is not None:
            run.adapter.cleanup_connections()
        warehouse.close_connections()
        warehouse.keep_manifest(book.book, run.target_path / "manifest.json")


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            ["published", team],
            group_name="published",
            description=f"What the {team} team may see: published/{team}.duckdb and one Parquet"
            " file per table.",
            deps=[spec.key for spec in models.specs if spec.group_name == "marts"],
            kinds={"duckdb", "parquet"},
        )
        for team in TEAMS
    ]
)
def published(book: BookResource) -> Iterator[dg.MaterializeResult]:
    """Hand every team its tables; readers of the files before keep reading them."""
    for team, tables in publish.publish(book.book).items():
        file = book.book.published / f"{team}.duckdb"
        yield dg.MaterializeResult(
            ["published", team],
            metadata={
                "tables": dg.MetadataValue.md("\n".join(f"- {table}" for table in tables)),
                "file": dg.MetadataValue.path(file),
                "size_bytes": file.stat().st_size,
            },
        )


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
                "reasons": dg.MetadataValue.md(_markdown(reasons.head(50))),
            },
        )


def quarantined(book: Book, table: str) -> pl.DataFrame:
    """One row per file and reason: source_file, reason, row_count; the most frequent first."""
    files = sorted((book.quarantine / table).glob("*.parquet"))
    columns = ["source_file", "reason"]
    if not files:
        return pl.DataFrame(schema={**dict.fromkeys(columns, pl.String), "row_count": pl.UInt32})
    return (
        pl.concat([pl.read_parquet(file, columns=columns) for file in files])
        .group_by(columns)
        .agg(row_count=pl.len())
        .sort("row_count", "source_file", "reason", descending=[True, False, False])
    )


def daily_rows(book: Book, table: str) -> pl.DataFrame:
    """One row per UTC day of the last four weeks with rows of a raw table: utc_date, row_count."""
    if table in ROLL_UPS:
        moment = "interval_started_at"
    elif table in RAW_TABLES:
        moment = RAW_TABLES[table].span[0]
    else:
        return pl.DataFrame(schema={"utc_date": pl.Date, "row_count": pl.UInt32})
    return (
        _lake_rows(book, table)
        .group_by(utc_date=pl.col(moment).dt.date())
        .agg(row_count=pl.len())
        .sort("utc_date", descending=True, nulls_last=True)
        .head(28)
        .collect()
    )


def _lake_rows(book: Book, table: str) -> pl.LazyFrame:
    folder = book.lake / ("loads" if table == "raw_loads" else table)
    return pl.scan_parquet(folder / "**" / "*.parquet", missing_columns="insert")


def _table_metadata(book: Book, table: str) -> dict[str, Any]:
    rows = _lake_rows(book, table).select(pl.len()).collect().item()
    metadata: dict[str, Any] = {"dagster/row_count": rows}
    days = daily_rows(book, table)
    if not days.is_empty():
        metadata["rows_per_day"] = dg.MetadataValue.md(_markdown(days))
    if table in RAW_TABLES:
        metadata["quarantined_row_count"] = int(quarantined(book, table)["row_count"].sum())
    return metadata


def _markdown(rows: pl.DataFrame) -> str:
    lines = [rows.columns, ["---"] * rows.width, *rows.rows()]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
