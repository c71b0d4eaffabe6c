"""The assets of the book, in the order of the way of the data.

What belongs here: thin assets that call the functions the command line calls, and add what a person
wants to see beside the asset. What does not: parsing, loading, arithmetic; checks (`checks.py`);
resources and partitions (`resources.py`); jobs, schedules and sensors (`definitions.py`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg
import polars as pl
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets

from pipelines import lake, pack, pulls, warehouse
from pipelines.book import Book
from pipelines.connectors import TABLES_OF
from pipelines.lake import read_load_records
from pipelines.lake.quarantine import quarantined
from pipelines.lake.schemas import RAW_TABLES
from pipelines.orchestration import checks
from pipelines.orchestration.columns import Columns, constraints, purpose
from pipelines.orchestration.resources import (
    DAYS,
    TO_MEND,
    WEEKS,
    BookResource,
    all_days,
    columns,
    columns_file,
    days_with_data,
    manifest,
)
from pipelines.pack import delivery
from pipelines.published import publishing
from pipelines.published.query import TEAMS, run_sql

ROLL_UPS = ("gpu_intervals", "node_intervals", "pod_intervals")
LOADED = (*RAW_TABLES, "job_nodes", "undeclared_names", "raw_loads")
BARS = "▁▂▃▄▅▆▇█"
AVAILABILITY = """
    select
        site_id, local_date,
        mean_effective_it_mw as effective_mw,
        mean_committed_it_mw as committed_mw,
        least(1, mean_effective_it_mw / nullif(mean_committed_it_mw, 0)) as ratio
    from kpi_site_daily
    where
        local_date > (select max(local_date) - 28 from kpi_site_daily)
        and site_id in (select site_id from kpi_site_daily where mean_committed_it_mw is not null)
    order by site_id, local_date
"""


class ModelsBySubject(DagsterDbtTranslator):
    """Shows dbt models by schema and name, in the group of their folder: their subject."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Schema and name, as in the warehouse; sources likewise."""
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The folder below models/."""
        return dbt_resource_props["fqn"][1]

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        """What dagster-dbt tells of a model, and what is known of its columns."""
        told = super().get_metadata(dbt_resource_props)
        if dbt_resource_props["resource_type"] != "model":
            return told
        return {**told, **columns().metadata(dbt_resource_props)}

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """The model's own description, without its SQL."""
        return dbt_resource_props["description"]

    def get_asset_check_spec(
        self,
        asset_spec: dg.AssetSpec,
        manifest: Mapping[str, Any],
        unique_id: str,
        project: DbtProject | None,
    ) -> dg.AssetCheckSpec | None:
        """A data test, with what it looks for: the constraints of a model, or its own words."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None:
            return None
        test = manifest["nodes"][unique_id]
        if test.get("attached_node") is None:
            return spec._replace(description=purpose(test["raw_code"]))
        rules = constraints(manifest["nodes"][test["attached_node"]])
        listed = "\n".join(f"- {rule}" for rule in rules)
        return spec._replace(description=f"Of every row that was built:\n\n{listed}")


def _source_specs(group: str, names: set[str]) -> list[dg.AssetSpec]:
    """One asset per dbt source named, with its description and columns.

    Where the definitions found mistakes in the reference data, each says so: nothing comes of it.
    """
    mistakes = "\n".join(f"- {one}" for one in TO_MEND)
    first = f"**Mend first, then reload definitions:**\n\n{mistakes}\n\n" if TO_MEND else ""
    return [
        dg.AssetSpec(
            ["raw", source["name"]],
            group_name=group,
            description=f"{first}{source['description']}\n\n{_origin(source['name'])}",
            kinds={"parquet"},
            metadata={
                "dagster/column_schema": dg.TableSchema(
                    [
                        dg.TableColumn(
                            column["name"],
                            column["data_type"],
                            description=column["description"],
                            constraints=_raw_constraints(source["name"], column["name"]),
                        )
                        for column in source["columns"].values()
                    ]
                )
            },
        )
        for source in manifest()["sources"].values()
        if source["name"] in names
    ]


def _origin(table: str) -> str:
    """Where the rows of a raw table come from, in words."""
    folders = [f"`landing/{name}/`" for name, tables in TABLES_OF.items() if table in tables]
    if folders:
        return f"Read from the files in {', '.join(folders)}; the lake keeps every row it was sent."
    if table in ROLL_UPS:
        return "Made of `gpu_samples` and `node_power_samples`, by the UTC day."
    if table in LOADED:
        return "Written when files in `landing/` are loaded."
    return "Declared by people in `reference/`; `wattbook validate` checks it."


def _raw_constraints(table: str, column: str) -> dg.TableColumnConstraints:
    """What holds of every row that is kept, as far as a column of a raw table says so."""
    declared = RAW_TABLES[table].schema.columns().get(column) if table in RAW_TABLES else None
    return dg.TableColumnConstraints(nullable=declared is None or declared.nullable)


def pulled(name: str, number: int) -> dg.AssetsDefinition:
    """The asset of one source of `sources.yml`: what it answers, landed as it came.

    Nothing depends on it, so that a source that fails stops nothing.
    """

    @dg.multi_asset(
        name=f"pull_{number}",
        specs=[
            dg.AssetSpec(
                ["pulled", name],
                group_name="sources",
                description=f"Files of the source {name}, one row per answer in landing/.",
            )
        ],
    )
    def one(book: BookResource) -> dg.MaterializeResult:
        [outcome] = pulls.pull(book.book, [name])
        if outcome.causes:
            raise dg.Failure(description="\n".join(outcome.causes))
        return dg.MaterializeResult(
            ["pulled", name],
            metadata={
                "landed_file_count": outcome.landed,
                "unchanged_file_count": outcome.unchanged,
            },
        )

    return one


_SOURCES = {source["name"] for source in manifest()["sources"].values()} - {"built_loads"}
LANDED = _SOURCES & set(LOADED)
REFERENCE = _SOURCES - set(LOADED) - set(ROLL_UPS)


@dg.multi_asset(specs=_source_specs("landing", LANDED), check_specs=checks.file_specs)
def landing(book: BookResource) -> Iterator[dg.MaterializeResult]:
    """Load whatever is new in landing/ into the lake: one Parquet file per table and file.

    What was refused shows in the check `files_read_whole` of the table it is of.
    """
    summary = lake.load(book.book)
    yield from landed_results(book.book)
    for record in summary.records:
        if record.reason:
            dg.get_dagster_logger().warning(
                "%s: %s: %s", record.status, record.source_file, record.reason
            )
    for note in (*summary.notes, *summary.lost):
        dg.get_dagster_logger().warning(note)


@dg.multi_asset(specs=_source_specs("reference", REFERENCE))
def reference_data(book: BookResource) -> Iterator[dg.MaterializeResult]:
    """Check the reference data and write it to the lake as flat tables."""
    lake.write_reference_tables(book.book)
    for table in sorted(REFERENCE):
        yield dg.MaterializeResult(["raw", table], metadata=reference_metadata(book.book, table))


@dg.multi_asset(
    specs=[
        spec.replace_attributes(
            deps=[["raw", "gpu_samples"], ["raw", "node_power_samples"]],
            partitions_def=DAYS,
            skippable=True,
        )
        for spec in _source_specs("lake", set(ROLL_UPS))
    ],
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def roll_ups(
    context: dg.AssetExecutionContext, book: BookResource
) -> Iterator[dg.MaterializeResult]:
    """Roll up telemetry to 15-minute intervals, for the days of the run.

    Days of which the book has no data stay as they are: nothing was made of them.
    """
    days = days_with_data(context, book.book)
    if days == []:
        return
    with warehouse.whole_lake(book.book):
        todo = warehouse.plan(book.book, days)
        warehouse.roll_up(todo)
    for table in ROLL_UPS:
        yield dg.MaterializeResult(["raw", table], metadata=table_metadata(book.book, table))


@dbt_assets(
    manifest=manifest(),
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    dagster_dbt_translator=ModelsBySubject(),
    name="models",
)
def models(
    context: dg.AssetExecutionContext, book: BookResource, dbt: DbtCliResource
) -> Iterator[Any]:
    """Build the dbt models for the days of the run; data tests report as asset checks.

    Days of which the book has no data stay as they are, and nothing is published anew.

    The first run of all models of a changed project also follows each column to those it is made
    of, which takes minutes.
    """
    days = days_with_data(context, book.book)
    if days == []:
        return
    todo = warehouse.plan(book.book, days, nameable=all_days())
    if context.is_subset:
        # A part of the models does not make the loads part of the book.
        todo = todo.without_load_ids()
    with (
        warehouse.build_lock(book.book),
        warehouse.whole_lake(book.book),
        warehouse.warehouse_variable(todo.warehouse),
    ):
        run = dbt.cli(
            todo.dbt_arguments, context=context, target_path=warehouse.dbt_dir(book.book) / "runs"
        )
        known = Columns.read(columns_file(), warehouse.project_digest())
        nodes = manifest()["nodes"]
        if known.lineage or context.is_subset:
            yield from known.keep(run.stream(), nodes)
        else:
            yield from known.keep(run.stream().fetch_column_metadata(), nodes)
            known.write(columns_file())
            # Columns were asked for in this process, in which the file is then read to publish.
            if run.adapter is not None:
                run.adapter.cleanup_connections()
            warehouse.close_connections()
        warehouse.keep_manifest(book.book, run.target_path / "manifest.json")


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            ["published", team],
            group_name="published",
            description=f"What the {team} team may see. `published/{team}.duckdb` holds its tables,"
            f" to be asked by `wattbook sql --team {team}` or any tool that opens DuckDB files;"
            f" below `published/{team}/` lies each as Parquet, by the month where it is built by"
            " the day.",
            deps=[spec.key for spec in models.specs if spec.key.path[0] == "marts"],
            kinds={"duckdb", "parquet"},
        )
        for team in TEAMS
    ]
)
def published(book: BookResource) -> Iterator[dg.MaterializeResult]:
    """Hand every team its tables; readers of the files before keep reading them."""
    publishing.publish(book.book)
    yield from published_results(book.book)


@dg.asset(
    key=["published", "packs"],
    partitions_def=WEEKS,
    group_name="published",
    deps=[["published", team] for team in TEAMS],
    kinds={"html", "json"},
)
def packs(context: dg.AssetExecutionContext, book: BookResource) -> dg.MaterializeResult:
    """The weekly pack of every team, a page each; operations' is sent where channels are set.

    One row per figure shown stands in each pack's `pack.json`. A pack once published stays; what
    the book says otherwise later is a revision beside it. A revision is sent once per channel.
    """
    week = date.fromisoformat(context.partition_key).strftime("%G-W%V")
    published_packs = pack.publish(book.book, week)
    [for_everyone] = [one for one in published_packs if one.team == "operations"]
    outcome = delivery.deliver(book.book, for_everyone, book.channels())
    return dg.MaterializeResult(metadata=pack_metadata(published_packs, outcome))


def landed_results(book: Book) -> Iterator[dg.MaterializeResult]:
    """What the lake holds of each table that files fill, and what of them was refused."""
    refused = checks.files_read_whole(book)
    for table in sorted(LANDED):
        yield dg.MaterializeResult(
            ["raw", table],
            metadata=table_metadata(book, table),
            check_results=[refused[table]] if table in refused else [],
        )


def published_results(book: Book) -> Iterator[dg.MaterializeResult]:
    """What lies in published/ for each team, with the two figures that all of them share."""
    for team in TEAMS:
        file = book.published / f"{team}.duckdb"
        tables = sorted(path.stem for path in (book.published / team).iterdir())
        yield dg.MaterializeResult(
            ["published", team],
            metadata={
                "effective_mw": checks.table(availability(book, team)),
                "tables": ", ".join(tables),
                "file": dg.MetadataValue.path(file),
                "size_bytes": file.stat().st_size,
            },
        )


def pack_metadata(
    published_packs: Sequence[pack.PublishedPack], outcome: Mapping[str, str]
) -> dict[str, Any]:
    """What shows beside the packs of a week: where they lie, what operations' holds, who got it."""
    [for_everyone] = [one for one in published_packs if one.team == "operations"]
    document = json.loads((for_everyone.folder / "pack.json").read_text(encoding="utf-8"))
    sections = {name: section["rows"] for name, section in document["sections"].items()}
    files = pl.DataFrame(
        [
            (one.team, one.revision, one.change_count, str(one.folder / "index.html"))
            for one in published_packs
        ],
        schema=("team", "revision", "changes", "page"),
        orient="row",
    )
    coverage = pl.DataFrame(
        [
            (row["kpi_name"], row["kpi_value"], row["unit"], row["coverage_ratio"])
            for row in sections["scorecard"]
            if row["scope"] == "organization"
        ],
        schema=("kpi", "value", "unit", "coverage"),
        orient="row",
        infer_schema_length=None,
    )
    agenda = pl.DataFrame(
        [
            (row["rank"], row["owner"], row["title"], row["weekly_worth"], row["currency_code"])
            for row in sections["agenda"]
        ],
        schema=("rank", "owner", "proposal", "worth a week", "currency"),
        orient="row",
        infer_schema_length=None,
    )
    return {
        "page": dg.MetadataValue.path(for_everyone.folder / "index.html"),
        "revision": for_everyone.revision,
        "is_new": for_everyone.is_new,
        "packs": checks.table(files),
        "scorecard": checks.table(coverage),
        "agenda": checks.table(agenda),
        "delivery": ", ".join(f"{name}: {what}" for name, what in outcome.items()) or "off",
    }


def availability(book: Book, team: str) -> pl.DataFrame:
    """Effective against committed MW of each site over the last four weeks, one bar per local day.

    A bar is full where what was committed was there, and a dot stands for a day without a figure.
    """
    days = run_sql(book, team, AVAILABILITY)
    lines = []
    for rows in days.partition_by("site_id"):
        ratios = rows["ratio"].to_list()
        bars = "".join("·" if ratio is None else BARS[int(ratio * 7)] for ratio in ratios)
        means = rows.select(pl.mean("effective_mw", "committed_mw")).row(0)
        shown = ["-" if mean is None else f"{mean:.2f}" for mean in means]
        lines.append((rows["site_id"][0], *shown, bars))
    columns = ("site", "effective MW", "committed MW", "each of 28 days")
    return pl.DataFrame(lines, schema=columns, orient="row")


def reference_metadata(book: Book, table: str) -> dict[str, Any]:
    """What shows beside a table of the reference data."""
    rows = pl.scan_parquet(str(book.lake / "reference" / f"{table}.parquet"))
    return {"dagster/row_count": rows.select(pl.len()).collect().item()}


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
    return pl.scan_parquet(str(folder / "**" / "*.parquet"), missing_columns="insert")


def table_metadata(book: Book, table: str) -> dict[str, Any]:
    """What shows beside a table of the lake: rows, those of the last days, those refused."""
    rows = _lake_rows(book, table).select(pl.len()).collect().item()
    metadata: dict[str, Any] = {"dagster/row_count": rows}
    days = daily_rows(book, table)
    if not days.is_empty():
        metadata["rows_per_day"] = checks.table(days)
    if table in RAW_TABLES:
        metadata["quarantined_row_count"] = int(quarantined(book, table)["row_count"].sum())
    if table == "raw_loads":
        left_out = (
            read_load_records(book)
            .filter(pl.col("left_out_row_count") > 0)
            .group_by("format", reason="left_out_reason")
            .agg(row_count=pl.col("left_out_row_count").sum(), file_count=pl.len())
            .sort("format", "reason")
        )
        metadata["left_out_row_count"] = int(left_out["row_count"].sum())
        metadata["left_out"] = checks.table(left_out)
    return metadata
