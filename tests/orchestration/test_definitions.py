"""The Dagster code location: keys, groups, partitions, checks, one run for a range of days."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import pytest
import yaml
from dagster_dbt import DbtCliResource

from pipelines import lake, warehouse
from pipelines.definitions import defs, late_files, pack_hour
from pipelines.lake.quarantine import QUARANTINE_SCHEMA, quarantined
from pipelines.lake.schemas import RAW_TABLES
from pipelines.orchestration import assets, checks, record, resources
from pipelines.published.query import TEAMS

PROJECT = yaml.safe_load((warehouse.PROJECT_DIR / "dbt_project.yml").read_text())
GROUPS = {"landing", "reference", "lake", *PROJECT["vars"]["subjects"], "published"}


@pytest.fixture(scope="module")
def graph():
    return defs.resolve_asset_graph()


def test_the_code_location_loads():
    dg.Definitions.validate_loadable(defs)


def test_every_asset_has_a_group_and_says_what_one_row_is(graph):
    nodes = [graph.get(key) for key in graph.get_all_asset_keys()]
    assert {node.group_name for node in nodes} == GROUPS
    assert [node.key.to_user_string() for node in nodes if not node.description] == []


def test_every_raw_table_is_an_asset_that_the_models_read(graph):
    keys = {dg.AssetKey(["raw", table]) for table in RAW_TABLES}
    assert keys - graph.get_all_asset_keys() == set()
    staging = graph.get(dg.AssetKey(["staging", "stg_meter_readings"]))
    assert dg.AssetKey(["raw", "meter_readings"]) in staging.parent_keys


def test_models_and_roll_ups_are_built_by_the_day_and_a_range_in_one_run(graph):
    for key in (["raw", "node_intervals"], ["marts", "fct_energy_balance"]):
        node = graph.get(dg.AssetKey(key))
        assert node.partitions_def == resources.DAYS
        assert node.backfill_policy == dg.BackfillPolicy.single_run()


def test_every_team_has_a_published_asset_that_needs_the_marts(graph):
    for team in TEAMS:
        node = graph.get(dg.AssetKey(["published", team]))
        assert dg.AssetKey(["marts", "fct_energy_balance"]) in node.parent_keys


def test_data_tests_of_the_models_are_asset_checks(graph):
    checked = {key.asset_key.to_user_string() for key in graph.asset_check_keys}
    assert {"marts/fct_energy_balance", "marts/fct_carbon", "raw/meter_readings"} <= checked


def test_the_check_of_a_models_rows_says_what_it_looks_for():
    [found] = [
        check.description
        for check in assets.models.check_specs
        if check.name == "constraints_fct_supply_capacity_"
    ]
    assert found == (
        "- site_id, interval_started_at is unique and not null\n"
        "- binding_limit in ('grid_outage', 'curtailment_order', 'grid_connection',"
        " 'electrical_limit', 'cooling_limit', 'it_capacity')"
    )


def test_the_morning_schedule_builds_yesterday():
    schedule = defs.resolve_schedule_def("every_morning")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime(2026, 10, 5, 5, tzinfo=UTC),
        )
        requests = schedule.evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests] == ["2026-10-04"]


def test_landing_is_loaded_where_anything_in_it_is_new_or_gone(book):
    schedule = defs.resolve_schedule_def("every_quarter_of_an_hour")
    file = book.landing / "nem12" / "a.csv"

    def asks() -> bool:
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_schedule_context(
                instance=instance,
                resources={"book": resources.BookResource(data_dir=str(book.data_dir))},
            )
            return bool(schedule.evaluate_tick(context).run_requests)

    found = [asks()]
    for content in ("no NEM12", "nor this", None):
        if content is None:
            file.unlink()
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        found.append(asks())
        lake.load(book)
        found.append(asks())
    assert found == [True, True, False, True, False, True, False]


def test_packs_are_of_the_weeks_of_the_organization_and_need_what_is_published(graph):
    node = graph.get(dg.AssetKey(["published", "packs"]))
    assert (node.group_name, node.partitions_def) == ("published", resources.WEEKS)
    assert node.parent_keys == {dg.AssetKey(["published", team]) for team in TEAMS}
    assert resources.DAYS.get_partition_keys()[0] == "2026-04-05"
    assert resources.WEEKS.get_partition_keys()[:2] == ["2026-04-06", "2026-04-13"]
    assert resources.WEEKS.timezone == "Europe/Berlin"
    assert node.key not in defs.resolve_job_def("book_of_the_day").asset_layer.executable_asset_keys


def test_the_monday_schedule_draws_the_packs_of_the_week_that_ended():
    schedule = defs.resolve_schedule_def("every_monday")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 8 * * 1", "Europe/Berlin")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime(2026, 11, 2, 7, tzinfo=UTC),
        )
        requests = schedule.evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests] == ["2026-10-26"]


@pytest.mark.parametrize(
    ("zone", "hour"),
    [
        ("Europe/Berlin", 8),
        ("America/Los_Angeles", 8),
        ("Asia/Kolkata", 12),
        ("Asia/Tokyo", 15),
        ("Pacific/Auckland", 19),
    ],
)
def test_packs_are_drawn_an_hour_after_the_build_in_every_zone_and_season(zone, hour):
    assert pack_hour(zone) == hour
    first = datetime(2026, 1, 5, hour, tzinfo=ZoneInfo(zone))
    for week in range(104):
        drawn = (first + timedelta(weeks=week)).astimezone(UTC)
        build_of_sunday = datetime(2026, 1, 5, 5, tzinfo=UTC) + timedelta(weeks=week)
        assert drawn >= build_of_sunday + timedelta(hours=1)


def test_late_files_are_asked_for_as_one_run_over_the_days_they_touch(book, monkeypatch):
    plan = warehouse.Plan(
        book, book.warehouse, (date(2026, 9, 10), date(2026, 9, 12)), ("0123456789abcdef",)
    )
    monkeypatch.setattr(warehouse, "plan", lambda _: plan)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(
            instance=instance,
            resources={"book": resources.BookResource(data_dir=str(book.data_dir))},
        )
        request = late_files(context)
    assert request.tags == {
        "dagster/asset_partition_range_start": "2026-09-10",
        "dagster/asset_partition_range_end": "2026-09-12",
    }


def test_days_without_a_partition_are_not_asked_for(book, monkeypatch):
    asked = []
    for days in ((date(2025, 12, 31), date(2026, 9, 10)), (date(2025, 12, 31),)):
        plan = warehouse.Plan(book, book.warehouse, days, ("0123456789abcdef",))
        monkeypatch.setattr(warehouse, "plan", lambda _, plan=plan: plan)
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(
                instance=instance,
                resources={"book": resources.BookResource(data_dir=str(book.data_dir))},
            )
            answer = late_files(context)
        asked.append(answer.tags if isinstance(answer, dg.RunRequest) else answer.skip_message)
    assert asked == [
        {
            "dagster/asset_partition_range_start": "2026-09-10",
            "dagster/asset_partition_range_end": "2026-09-10",
        },
        "The new loads touch none of the days that have a partition.",
    ]


class Events(list):
    """What dagster-dbt gives of a run of dbt in which nothing is built."""

    def fetch_column_metadata(self) -> "Events":
        return self


@pytest.mark.parametrize(
    ("selection", "load_ids"),
    [(None, ["0123456789abcdef"]), ([dg.AssetKey(["marts", "dim_sites"])], [])],
    ids=["all models", "one model"],
)
def test_only_a_run_of_all_models_makes_loads_part_of_the_book(
    book, monkeypatch, selection, load_ids
):
    asked = []

    def cli(_: DbtCliResource, arguments: list[str], *, target_path: Path, **__: object):
        asked.append(json.loads(arguments[arguments.index("--vars") + 1]))
        target_path.mkdir(parents=True)
        (target_path / "manifest.json").write_text("{}")
        return SimpleNamespace(stream=Events, adapter=None, target_path=target_path)

    day = date(2026, 9, 10)
    plan = warehouse.Plan(book, book.warehouse.resolve(), (day,), ("0123456789abcdef",))
    monkeypatch.setattr(warehouse, "plan", lambda *_, **__: plan)
    monkeypatch.setattr(DbtCliResource, "cli", cli)
    run = dg.materialize(
        [assets.models],
        partition_key="2026-09-10",
        selection=selection,
        resources={
            "book": resources.BookResource(data_dir=str(book.data_dir)),
            "dbt": resources.resources()["dbt"],
        },
    )
    assert run.success
    assert asked == [
        {
            "lake_dir": str(book.lake.resolve()),
            "roll_up_dir": str(book.lake.resolve()),
            "as_of": None,
            "build_from": "2026-08-31",
            "load_ids": load_ids,
        }
    ]


def test_nothing_is_asked_for_when_the_warehouse_holds_every_load(book, monkeypatch):
    monkeypatch.setattr(warehouse, "plan", lambda _: warehouse.Plan(book, book.warehouse, ()))
    context = dg.build_sensor_context(
        resources={"book": resources.BookResource(data_dir=str(book.data_dir))}
    )
    assert isinstance(late_files(context), dg.SkipReason)


def test_quarantined_rows_show_as_a_warning_with_file_and_reason(book):
    folder = book.quarantine / "meter_readings"
    folder.mkdir(parents=True)
    pl.DataFrame(
        {
            "source_file": ["nem12/a.csv", "nem12/a.csv", "nem12/b.csv"],
            "source_row": [0, 1, 0],
            "load_id": ["a", "a", "b"],
            "row": ["{}", "{}", "{}"],
            "reason": ["meter X not declared", "meter X not declared", "quality 'Z' unknown"],
        },
        schema=QUARANTINE_SCHEMA,
    ).write_parquet(folder / "batch.parquet")
    assert quarantined(book, "meter_readings").rows() == [
        ("nem12/a.csv", "meter X not declared", 2),
        ("nem12/b.csv", "quality 'Z' unknown", 1),
    ]
    outcome = {
        result.asset_key.path[-1]: result
        for result in checks.quarantine(resources.BookResource(data_dir=str(book.data_dir)))
    }
    assert outcome["meter_readings"].passed is False
    assert outcome["meter_readings"].severity == dg.AssetCheckSeverity.WARN
    assert outcome["jobs"].passed is True


def test_a_book_without_telemetry_shows_roll_ups_without_rows(book):
    lake.load(book)
    warehouse.roll_up(warehouse.Plan(book, book.warehouse, None))
    assert [assets.table_metadata(book, table) for table in assets.ROLL_UPS] == [
        {"dagster/row_count": 0},
        {"dagster/row_count": 0},
        {"dagster/row_count": 0},
    ]


def test_a_range_of_days_is_one_run_that_knows_all_its_days():
    seen = []

    @dg.asset(partitions_def=resources.DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def probe(context: dg.AssetExecutionContext) -> None:
        seen.append(resources.days_of(context))

    days = [date(2026, 10, 1), date(2026, 10, 2), date(2026, 10, 3)]
    assert dg.materialize([probe], tags=resources.range_tags(days)).success
    assert seen == [days]


def test_events_of_the_command_line_are_stored_as_one_with_assets_days_and_checks(
    book, monkeypatch
):
    key, other = dg.AssetKey(["marts", "kpi_site_daily"]), dg.AssetKey(["raw", "gpu_intervals"])
    days = ["2026-10-01", "2026-10-02", "2026-10-03"]
    reported = [
        *record.of_days(other, days, {"dagster/row_count": 9}),
        *record.of_days(key, days[:2], {"dagster/row_count": 8}),
        dg.AssetCheckEvaluation(asset_key=key, check_name="grain", passed=True, metadata={}),
    ]
    monkeypatch.setattr(record, "events", lambda *_: iter(reported))
    assert record.record(book, None) == 6
    with dg.DagsterInstance.from_config(str(book.data_dir / "dagster")) as instance:
        assert instance.get_materialized_partitions(key) == {"2026-10-01", "2026-10-02"}
        latest = instance.get_latest_materialization_event(key).asset_materialization
        assert (latest.partition, latest.metadata["dagster/row_count"].value) == (days[1], 8)
        events = instance.fetch_materializations(other, limit=9, ascending=True).records
        assert [
            (event.partition_key, event.asset_materialization.metadata) for event in events
        ] == [
            (days[0], {}),
            (days[1], {}),
            (days[2], {"dagster/row_count": dg.MetadataValue.int(9)}),
        ]
        [check] = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(key, "grain"), limit=5
        )
        assert check.status.value == "SUCCEEDED"


def test_nothing_is_stored_of_what_stops_half_way(book, monkeypatch):
    key = dg.AssetKey("probe")

    def stopping():
        yield dg.AssetMaterialization(key)
        raise FileNotFoundError("published/energy.duckdb")

    monkeypatch.setattr(record, "events", lambda *_: stopping())
    with pytest.raises(FileNotFoundError):
        record.record(book, None)
    with dg.DagsterInstance.from_config(str(book.data_dir / "dagster")) as instance:
        assert instance.all_asset_keys() == []
