"""The Dagster code location: keys, groups, partitions, checks, one run for a range of days."""

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import pytest
import yaml
from dagster_dbt import DbtCliResource

from pipelines import lake, reference, warehouse
from pipelines.connectors import FORMATS, TABLES_OF
from pipelines.definitions import defs, late_files, pack_hour
from pipelines.lake.quarantine import QUARANTINE_SCHEMA
from pipelines.lake.schemas import RAW_TABLES
from pipelines.orchestration import assets, checks, record, resources
from pipelines.published.query import TEAMS
from pipelines.reference.project import finding_rules

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


def test_a_raw_table_says_where_its_rows_come_from(graph):
    origins = {
        table: graph.get(dg.AssetKey(["raw", table])).description.split("\n\n")[-1]
        for table in ("jobs", "gpu_intervals", "raw_loads", "meters")
    }
    assert origins == {
        "jobs": "Read from the files in `landing/sacct/`, `landing/opencost/`; the lake keeps"
        " every row it was sent.",
        "gpu_intervals": "Made of `gpu_samples` and `node_power_samples`, by the UTC day.",
        "raw_loads": "Written when files in `landing/` are loaded.",
        "meters": "Declared by people in `reference/`; `wattbook validate` checks it.",
    }


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
        "Of every row that was built:\n\n"
        "- no two rows have the same site_id and interval_started_at, of which none is missing\n"
        "- binding_limit is grid_outage, curtailment_order, grid_connection, electrical_limit,"
        " cooling_limit or it_capacity"
    )


def test_every_check_says_what_it_looks_for(graph):
    described = {
        f"{check.key.asset_key.to_user_string()} {check.key.name}": check.description
        for check in (graph.get(key) for key in graph.asset_check_keys)
    }
    assert len(described) > 150
    assert [name for name, words in described.items() if not words or len(words) < 30] == []
    assert described["marts/fct_energy_balance assert_energy_in_equals_energy_out"].startswith(
        "Fails on the site intervals of which energy in differs from energy out: import +"
    )
    rules = [rule["description"] for rule in finding_rules()]
    assert len(set(rules)) == len(rules)


def test_every_table_shows_what_its_columns_are(graph):
    for key in graph.get_all_asset_keys():
        if key.path[0] != "published":
            columns = graph.get(key).metadata["dagster/column_schema"].columns
            assert columns, key
            assert [column.name for column in columns if not column.description] == []
            if key.path[0] == "raw":
                assert [column.name for column in columns if column.type in ("", "?")] == []


def test_columns_of_raw_tables_and_models_say_whether_they_may_be_empty(graph):
    shown = {
        name: {
            column.name: (column.type, column.constraints.nullable)
            for column in graph.get(dg.AssetKey(name)).metadata["dagster/column_schema"].columns
        }
        for name in (("raw", "meter_readings"), ("marts", "fct_supply_capacity"))
    }
    assert shown["raw", "meter_readings"]["meter_id"] == ("varchar", False)
    assert shown["marts", "fct_supply_capacity"]["site_id"][1] is False
    assert shown["marts", "fct_supply_capacity"]["binding_limit"][1] is True


@pytest.mark.parametrize(
    ("data_until", "is_as_seen", "asked"),
    [
        (date(2026, 10, 4), True, ["2026-10-04"]),
        (date(2026, 10, 3), False, ["2026-10-04"]),
        (date(2026, 10, 3), True, []),
    ],
    ids=["with its data", "with files to load", "without either"],
)
def test_the_morning_schedule_builds_yesterday_where_there_is_anything_of_it(
    book, monkeypatch, data_until, is_as_seen, asked
):
    monkeypatch.setattr(warehouse, "touched_dates", lambda _: [data_until])
    monkeypatch.setattr(lake, "is_as_seen", lambda _: is_as_seen)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime(2026, 10, 5, 5, tzinfo=UTC),
            repository_def=defs.get_repository_def(),
            resources={"book": resources.BookResource(data_dir=str(book.data_dir))},
        )
        answer = defs.resolve_schedule_def("every_morning").evaluate_tick(context)
    assert [request.partition_key for request in answer.run_requests] == asked
    if not asked:
        assert answer.skip_message == "No file tells of 2026-10-04 yet: it is built once one does."


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
    monkeypatch.setattr(warehouse, "touched_dates", lambda _: [day])
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


def test_rows_that_were_refused_show_as_a_warning_with_file_reason_and_mend(book):
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
    outcome = checks.files_read_whole(book)
    [jobs, readings, every] = (outcome[name] for name in ("jobs", "meter_readings", "raw_loads"))
    assert (jobs.passed, jobs.description) == (True, "Everything was read.")
    assert (readings.passed, readings.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert readings.metadata["refused"].value.records == [
        dg.TableRecord(
            {
                "file": "nem12/a.csv",
                "rows": "2",
                "reason": "meter X not declared",
                "mend": checks.MEND_ROWS,
            }
        ),
        dg.TableRecord(
            {
                "file": "nem12/b.csv",
                "rows": "1",
                "reason": "quality 'Z' unknown",
                "mend": checks.MEND_ROWS,
            }
        ),
    ]
    assert every.metadata == readings.metadata


def test_a_file_that_is_refused_turns_the_checks_of_its_tables_red_in_the_run_that_loads(book):
    file = book.landing / "nem12" / "wrong.csv"
    file.parent.mkdir(parents=True)
    file.write_text("no NEM12")
    with dg.DagsterInstance.ephemeral() as instance:
        run = defs.resolve_job_def("landing_files").execute_in_process(
            instance=instance,
            resources={"book": resources.BookResource(data_dir=str(book.data_dir))},
        )
    failed = [one for one in run.get_asset_check_evaluations() if not one.passed]
    assert run.success
    assert {one.asset_key.path[-1] for one in failed} == {
        "meter_readings",
        "register_reads",
        "raw_loads",
    }
    for one in failed:
        assert one.severity == dg.AssetCheckSeverity.ERROR
        assert one.description.startswith("- nem12/wrong.csv: ")
        [refused] = one.metadata["refused"].value.records
        assert (refused.data["file"], refused.data["rows"]) == ("nem12/wrong.csv", "all")
        assert refused.data["mend"] == checks.MEND_FILE


def test_of_every_format_it_is_known_which_tables_it_fills():
    assert tuple(TABLES_OF) == FORMATS
    assert {table for tables in TABLES_OF.values() for table in tables} == set(RAW_TABLES)


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


def test_what_the_command_line_did_is_a_run_with_assets_days_and_checks(book, monkeypatch):
    key, other = dg.AssetKey(["marts", "kpi_site_daily"]), dg.AssetKey(["raw", "gpu_intervals"])
    days = ["2026-10-01", "2026-10-02", "2026-10-03"]
    reported = [
        *record.of_days(other, days, {"dagster/row_count": 9}),
        *record.of_days(key, days[:2], {"dagster/row_count": 8}),
        dg.AssetCheckEvaluation(asset_key=key, check_name="grain", passed=True, metadata={}),
    ]
    monkeypatch.setattr(record, "events", lambda *_: iter(reported))
    assert record.record(book, None, "wattbook demo") == 6
    with dg.DagsterInstance.from_config(str(book.data_dir / "dagster")) as instance:
        [run] = instance.get_runs()
        assert (run.job_name, run.status) == ("wattbook_run", dg.DagsterRunStatus.SUCCESS)
        assert run.tags["wattbook/command"] == "wattbook demo"
        assert instance.get_materialized_partitions(key) == {"2026-10-01", "2026-10-02"}
        latest = instance.get_latest_materialization_event(key)
        shown = latest.asset_materialization
        assert (shown.partition, shown.metadata["dagster/row_count"].value) == (days[1], 8)
        assert latest.run_id == run.run_id
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
        assert (check.status.value, check.run_id) == ("SUCCEEDED", run.run_id)


def test_a_run_that_was_cut_off_while_it_told_ends_with_the_next(book, monkeypatch):
    monkeypatch.setattr(record, "events", lambda *_: iter([dg.AssetMaterialization("probe")]))
    record.record(book, None, "wattbook run")
    with dg.DagsterInstance.from_config(str(book.data_dir / "dagster")) as instance:
        [done] = instance.get_runs()
        cut_off = dg.DagsterRun(job_name=done.job_name, status=dg.DagsterRunStatus.STARTED)
        instance.add_run(cut_off)
        record.record(book, None, "wattbook run")
        status = {run.run_id: run.status for run in instance.get_runs()}
    assert status.pop(cut_off.run_id) == dg.DagsterRunStatus.FAILURE
    assert [*status.values()] == [dg.DagsterRunStatus.SUCCESS] * 2


def test_a_load_that_refused_a_file_is_a_run_with_the_check_red(book):
    file = book.landing / "redfish" / "wrong.json"
    file.parent.mkdir(parents=True)
    file.write_text("no JSON")
    lake.load(book)
    record.record_load(book, "wattbook load")
    with dg.DagsterInstance.from_config(str(book.data_dir / "dagster")) as instance:
        [run] = instance.get_runs()
        key = dg.AssetCheckKey(dg.AssetKey(["raw", "node_power_samples"]), "files_read_whole")
        [check] = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    assert (run.job_name, check.status.value) == ("wattbook_load", "FAILED")


def test_nothing_is_stored_of_what_stops_half_way(book, monkeypatch):
    key = dg.AssetKey("probe")

    def stopping():
        yield dg.AssetMaterialization(key)
        raise FileNotFoundError("published/energy.duckdb")

    monkeypatch.setattr(record, "events", lambda *_: stopping())
    with pytest.raises(FileNotFoundError):
        record.record(book, None, "wattbook run")
    assert not (book.data_dir / "dagster").exists()


@pytest.mark.parametrize(
    ("first", "last", "built"),
    [
        ("2026-09-10", "2026-09-10", [date(2026, 9, 10)]),
        ("2026-09-12", "2026-09-13", []),
        ("2026-09-10", "2026-09-12", None),
    ],
    ids=["within the data", "after the data", "from within to after"],
)
def test_no_day_beyond_the_data_is_shown_as_built(book, monkeypatch, first, last, built):
    monkeypatch.setattr(warehouse, "touched_dates", lambda _: [date(2026, 9, 10)])
    seen = []

    @dg.multi_asset(
        specs=[dg.AssetSpec("probe", partitions_def=resources.DAYS, skippable=True)],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def probe(context: dg.AssetExecutionContext):
        days = resources.days_with_data(context, book)
        seen.append(days)
        if days:
            yield dg.MaterializeResult("probe")

    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize(
            [probe],
            instance=instance,
            tags=resources.range_tags([date.fromisoformat(day) for day in (first, last)]),
            raise_on_error=False,
        )
        shown = instance.get_materialized_partitions(dg.AssetKey("probe"))
    assert shown == {day.isoformat() for day in built or ()}
    assert seen == ([] if built is None else [built])
    assert run.success is (built is not None)
    if built is None:
        [failure] = [event for event in run.all_events if event.is_step_failure]
        assert "The data end on 2026-09-10" in str(failure.event_specific_data.error)


def test_roll_ups_and_models_may_leave_days_as_they_are():
    specs = (*assets.roll_ups.specs, *assets.models.specs)
    assert [spec.key for spec in specs if not spec.skippable] == []


@pytest.mark.parametrize(
    ("files", "data_from", "first_day"),
    [
        ({}, None, datetime.now(UTC).date()),
        ({}, date(2026, 3, 1), date(2026, 3, 1)),
        ({"organization.yml": "name: ["}, date(2026, 3, 1), date(2026, 3, 1)),
    ],
    ids=["nothing", "data alone", "mistakes"],
)
def test_the_definitions_have_a_first_day_and_say_what_to_mend(
    tmp_path, monkeypatch, files, data_from, first_day
):
    monkeypatch.setenv("WATTBOOK_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(warehouse, "first_date", lambda _: data_from)
    for name, text in files.items():
        (tmp_path / "reference").mkdir(exist_ok=True)
        (tmp_path / "reference" / name).write_text(text)
    found, to_mend = resources.calendar()
    assert found == reference.Calendar("UTC", first_day)
    expected = "organization.yml" if files else f"no reference data in {tmp_path}"
    assert to_mend[0].startswith(expected)


def test_a_lake_that_cannot_be_read_is_told_and_keeps_the_ui_from_nothing(book, monkeypatch):
    def damaged(_: object) -> None:
        raise lake.LakeError(["lake/loads/a.parquet: found a damaged file"])

    monkeypatch.setenv("WATTBOOK_DATA_DIR", str(book.data_dir))
    monkeypatch.setattr(warehouse, "first_date", damaged)
    found, to_mend = resources.calendar()
    assert found == reference.Calendar("Europe/Berlin", date(2026, 4, 5))
    assert to_mend == ["lake/loads/a.parquet: found a damaged file"]


@pytest.mark.slow
def test_the_code_location_loads_where_there_is_no_book(tmp_path):
    told = (
        "from pipelines.definitions import defs\n"
        "import dagster as dg\n"
        "dg.Definitions.validate_loadable(defs)\n"
        "print(defs.resolve_asset_graph().get(dg.AssetKey(['raw', 'jobs'])).description)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", told],
        env={**os.environ, "WATTBOOK_DATA_DIR": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("**Mend first, then reload definitions:**\n\n- no reference")
