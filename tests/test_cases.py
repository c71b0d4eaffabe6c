"""Small inputs that people in the field stumbled over: of each, the right value worked out by hand.

What belongs here: one test per folder of `tests/cases`, from a file in landing to the figure it
makes. What does not: the arithmetic of models and parsers, which is tested beside them.
"""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from pipelines import lake, reference, warehouse
from pipelines.book import Book
from pipelines.connectors import green_button, sacct
from pipelines.connectors.common import Context
from pipelines.simulator.landing import declare
from tests import small_world
from tests.dbt_project.conftest import lake_vars

CASES = Path(__file__).parent / "cases"
BASE = CASES / "base"
Ask = Callable[[str], list[tuple[Any, ...]]]

IN_ONE_BOOK = {
    "battery-day-late": "battery_csv",
    "battery-soc-105": "battery_csv",
    "dcgm-broken-line": "dcgm_scrape",
    "dcgm-frozen-counter": "prometheus",
    "dcgm-mig-engine-active": "dcgm_scrape",
    "dcgm-mig-util-zero": "prometheus",
    "dcgm-power-violation-at-tdp": "prometheus",
    "entsoe-15-and-60-min": "entsoe",
    "entsoe-a03-trailing": "entsoe",
    "entsoe-sequence-2-only": "entsoe",
    "ercot-lz-lzew": "prices_csv",
    "estimated-read-above-facility": "nem12",
    "meter-clock-reset": "nem12",
    "nem12-288-under-15": "nem12",
    "nem12-no-header": "nem12",
    "nem12-no-msats-column": "nem12",
    "nem12-reactive": "nem12",
    "nem12-register-read": "nem12",
    "nem12-variable-quality": "nem12",
    "openadr-default-period": "openadr",
    "openadr-no-duration": "openadr",
    "price-list-underscore-zone": "prices_csv",
    "slurm-cpu-only-job": "sacct",
    "slurm-requeued-job": "sacct",
    "slurm-runaway-job": "sacct",
    "slurm-suspended-job": "sacct",
}
"""Cases that touch other sites or days, and the format of their files: one book serves them all."""

near = lambda value: pytest.approx(value, abs=1e-6)  # noqa: E731


def land(book: Book, case: str, landing_format: str) -> None:
    """Put a case's files into landing."""
    for file in sorted((CASES / case).iterdir()):
        target = book.landing / landing_format / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def with_base_reference(folder: Path) -> Book:
    book = Book(folder / "data")
    shutil.copytree(BASE / "reference", book.data_dir / "reference")
    return book


def build(book: Book, *models: str) -> Ask:
    """Load and build the models named, with what they read, or all; what answers queries."""
    lake.load(book)
    if models:
        lake.write_reference_tables(book)
        arguments = ["run", "--select", *(f"+{model}" for model in models)]
        answer = warehouse.invoke_dbt(
            book, book.warehouse.resolve(), [*arguments, "--vars", lake_vars(book)]
        )
        assert answer.success, answer.exception
    else:
        warehouse.build(book)
    return asking(book)


def asking(book: Book) -> Ask:
    def ask(query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(book.warehouse), read_only=True) as connection:
            connection.execute("set timezone = 'UTC'")
            return connection.execute(query).fetchall()

    return ask


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """The small world with every case of `IN_ONE_BOOK`, built as a whole."""
    book = with_base_reference(tmp_path_factory.mktemp("cases"))
    small_world.write(book.data_dir)
    for case, landing_format in IN_ONE_BOOK.items():
        land(book, case, landing_format)
    build(book)
    return book


@pytest.fixture(scope="module")
def ask(book: Book) -> Ask:
    return asking(book)


def loads(ask: Ask, *names: str) -> list[tuple[Any, ...]]:
    """Of each file its status, rows loaded and rows quarantined."""
    listed = ", ".join(f"'{name}'" for name in names)
    return ask(
        "select status, row_count, quarantined_row_count from raw.raw_loads"
        f" where source_file in ({listed}) order by source_file"
    )


def at(*parts: int) -> datetime:
    return datetime(2026, *parts, tzinfo=UTC)


def test_every_case_has_a_test():
    text = Path(__file__).read_text()
    cases = {path.name for path in CASES.iterdir() if path.is_dir()} - {"base"}
    assert {
        case for case in cases if case not in text and case.replace("-", "_") not in text
    } == set()


# One bad figure or file


def test_battery_day_late_leaves_that_days_cost_unknown_and_no_other(ask):
    days = ask(
        "select local_date, count(battery_cost) = count(*), count(all_in_energy_cost) = count(*)"
        " from marts.fct_all_in_costs where site_id = 'cedar' and local_date >= '2026-05-04'"
        " and local_date <= '2026-05-08' group by local_date order by local_date"
    )
    # On the 6th IT was withheld: what the battery gave is known all the same.
    assert [(day, battery) for day, battery, _ in days] == [
        (date(2026, 5, 4), True),
        (date(2026, 5, 5), True),
        (date(2026, 5, 6), True),
        (date(2026, 5, 7), False),
        (date(2026, 5, 8), False),
    ]
    assert days[0][2] is True


def test_battery_soc_105_is_refused_alone(ask):
    assert loads(ask, "battery_csv/soc105.csv") == [("partial", 1, 1)]


def test_battery_without_meters_counts_by_its_own_power(tmp_path):
    book = Book(tmp_path / "data")
    shutil.copytree(CASES / "battery-without-meters/reference", book.data_dir / "reference")
    days = list(small_world.days(date(2024, 1, 2), date(2024, 1, 3)))
    small_world.put(
        book.data_dir,
        "nem12/meters.csv",
        small_world.nem12(
            [("NL-POI", "E1", lambda day, slot: 100), ("NL-PV", "B1", lambda day, slot: 200)], days
        ),
    )
    prices = [f"{day} {hour:02}:00:00,{40 + hour}" for day in days for hour in range(24)]
    small_world.put(
        book.data_dir,
        "prices_csv/US-TEX-ERCO_prices_2024.csv",
        "\n".join(["Datetime (UTC),Price (USD/MWh)", *prices]) + "\n",
    )
    noon = datetime(2024, 1, 2, 18, tzinfo=UTC)
    power = [200, 200, 200, -100, -100, -100]
    small_world.put(
        book.data_dir, "battery_csv/bess.csv", small_world.battery(noon, power, "nl-bess")
    )

    ask = build(book)

    assert ask(
        "select interval_started_at, battery_charge_kwh, battery_discharge_kwh, consumption_kwh,"
        " is_estimated from marts.fct_energy_balance"
        " where interval_started_at >= '2024-01-02 18:00Z'"
        " and interval_started_at < '2024-01-02 18:45Z' order by interval_started_at"
    ) == [
        (noon, 0, 50, 150, True),
        (noon + timedelta(minutes=15), 25, 0, 75, True),
        (noon + timedelta(minutes=30), None, None, None, True),
    ]


def test_dcgm_broken_line_fails_its_file_alone(ask):
    [(status, rows, _)] = loads(ask, "dcgm_scrape/ald01_20260505T000000Z.prom")
    assert (status, rows) == ("failed", 0)
    assert ask("select count(*) > 0 from raw.gpu_samples where hostname = 'ald05'") == [(True,)]


def test_estimated_read_above_facility_is_withheld_and_told(ask):
    assert ask(
        "select rule_id, subject_id, occurrence_count, found_quantity, is_withheld, source_files"
        " from marts.fct_findings where rule_id = 'meter_contradiction'"
    ) == [("meter_contradiction", "CEDIT00001", 96, 3, True, ["nem12/it_estimated.csv"])]
    assert ask(
        "select count(*), count(it_kwh), count(pue_ratio), sum(facility_kwh)"
        " from marts.fct_energy_balance where site_id = 'cedar'"
        " and interval_started_at >= '2026-05-05 14:00Z'"
        " and interval_started_at < '2026-05-06 14:00Z'"
    ) == [(96, 0, 0, near(96 * 2.4))]


def test_nem12_register_read_withholds_what_does_not_add_up_to_the_register(ask):
    # 96 x 2.5 are the 240 of the first day, 96 x 3.5 not the 240.5 of the second.
    midnight = datetime(2026, 5, 16, 14, tzinfo=UTC)
    assert ask(
        "select subject_id, flow, started_at, ended_at, found_quantity, is_withheld, source_files"
        " from marts.fct_findings where rule_id = 'meter_register_sum'"
    ) == [
        (
            "CEDIT00001",
            "import",
            midnight,
            midnight + timedelta(days=1),
            near(336),
            True,
            ["nem12/with_register.csv"],
        )
    ]
    days = [
        "select count(*), count(it_kwh), sum(it_kwh) from marts.fct_energy_balance"
        f" where site_id = 'cedar' and interval_started_at >= '2026-05-{day - 1} 14:00Z'"
        f" and interval_started_at < '2026-05-{day} 14:00Z'"
        for day in (16, 17)
    ]
    assert [ask(day) for day in days] == [[(96, 96, near(240))], [(96, 0, None)]]
    assert loads(ask, "nem12/with_register.csv")[0][:2] == ("loaded", 192 + 3)


def test_meter_clock_reset_quarantines_the_reading_from_the_future(ask):
    [past, future] = loads(ask, "nem12/clock_reset_2000.csv", "nem12/typo_2030.csv")
    assert future[:2] == ("partial", 0)
    assert past[1] in (0, 96)
    assert ask("select max(utc_date) < '2027-01-01' from marts.fct_energy_balance") == [(True,)]


def test_no_telemetry_is_no_fault(book):
    """The book of `battery-without-meters` has none; what is run after a build is the CLI's."""


# Keys


def test_entsoe_15_and_60_min_are_two_prices_of_which_one_counts(ask):
    # 96 x 1 MWh x 60 less 9,600 at the market: one series of the two, not the first of every hour.
    assert amount(ask, "2026-05-05") == near(-3840)


def test_entsoe_a03_trailing_points_are_filled(ask):
    assert amount(ask, "2026-05-06") == near(96 * 60 - (4 * 100 + 85 * 20 + 7 * 30))


def test_entsoe_sequence_2_only_prices_no_contract_of_sequence_1(ask):
    assert loads(ask, "entsoe/seq2.xml")[0][0] == "loaded"


def test_ercot_lz_lzew_takes_the_load_zones_own_price(ask):
    assert ask(
        "select distinct source_price_per_mwh from staging.stg_market_prices"
        " where zone = 'LZ_CEDAR' and utc_date = '2026-05-06'"
    ) == [(50.0,)]


def test_price_list_underscore_zone_is_read_as_declared(ask):
    assert ask(
        "select distinct zone from raw.market_prices"
        " where source_file = 'prices_csv/LZ_CEDAR_prices_2026.csv'"
    ) == [("LZ_CEDAR",)]


def amount(ask: Ask, local_date: str) -> Any:
    """What the CfD of the small world comes to on a day, as we pay it."""
    [(paid,)] = ask(
        "select -sum(contract_amount) from marts.fct_contract_settlements"
        f" where contract_id = 'alder-cfd' and local_date = '{local_date}'"
    )
    return -paid


# Meters


def test_nem12_288_under_15_is_refused(ask):
    assert loads(ask, "nem12/slots288.csv")[0][1] == 0


def test_nem12_no_header_is_refused(ask):
    assert loads(ask, "nem12/no_header.csv")[0][:2] == ("failed", 0)


def test_nem12_no_msats_column_loads(ask):
    assert loads(ask, "nem12/no_msats.csv") == [("loaded", 96, 0)]


def test_nem12_reactive_loads_the_active_series_and_is_no_fault(ask):
    assert loads(ask, "nem12/with_reactive.csv") == [("loaded", 96, 0)]


def test_nem12_variable_quality_follows_the_400_records(ask):
    assert ask(
        "select quality, count(*) from raw.meter_readings"
        " where source_file = 'nem12/variable.csv' group by quality order by quality"
    ) == [("measured", 80), ("substituted", 16)]


# Events


def test_openadr_default_period_gives_each_interval_the_next_hour(ask):
    assert ask(
        "select started_at, ended_at, import_limit_mw from staging.stg_grid_events"
        " where site_id = 'alder' and started_at >= '2026-05-07' and started_at < '2026-05-08'"
        " order by started_at"
    ) == [
        (at(5, 7, 8), at(5, 7, 9), near(0.1)),
        (at(5, 7, 9), at(5, 7, 10), near(0.08)),
        (at(5, 7, 10), at(5, 7, 11), near(0.06)),
    ]


def test_openadr_no_duration_is_refused(ask):
    assert loads(ask, "openadr/no_duration.json")[0][1] == 0


# Jobs


def gpu_hours(ask: Ask, site: str, local_date: str) -> dict[str, float]:
    return dict(
        ask(
            "select workload_id, allocated_gpu_hours from marts.fct_workload_energy"
            f" where site_id = '{site}' and local_date = '{local_date}'"
            " and allocated_gpu_hours > 0"
        )
    )


def test_slurm_cpu_only_job_allocates_no_gpus(ask):
    hours = gpu_hours(ask, "alder", "2026-05-05")
    assert hours.get("prep", 0) == 0
    assert hours["train"] == near(20)


def test_slurm_suspended_job_counts_what_it_ran(ask):
    assert gpu_hours(ask, "alder", "2026-05-05")["serve"] == near(40)


def test_slurm_requeued_job_counts_both_runs(ask):
    # 4 GPUs for 4 h and for 6 h from 10:10 UTC, of which the last hours lie on the same local day.
    assert gpu_hours(ask, "alder", "2026-05-06")["train"] == near(40)


def test_slurm_runaway_job_is_known_for_the_hour_it_was_seen(ask):
    assert ask(
        "select sum(allocated_gpu_hours) from marts.fct_workload_energy"
        " where site_id = 'cedar' and workload_id = 'train'"
    ) == [(near(4),)]


# Telemetry


def node(ask: Ask, hostname: str, column: str) -> Any:
    [(value,)] = ask(
        f"select sum({column}) from intermediate.int_node_intervals where hostname = '{hostname}'"
    )
    return value


def test_dcgm_frozen_counter_gives_way_to_the_power(ask):
    assert node(ask, "ald05", "gpu_kwh") == pytest.approx(14.4, rel=0.01)


def test_dcgm_mig_util_zero_leaves_use_unknown(ask):
    assert node(ask, "ald07", "gpu_kwh") == pytest.approx(10.8, rel=0.01)
    assert node(ask, "ald07", "gpu_idle_s") in (None, 0)
    assert node(ask, "ald07", "gpu_busy_s") in (None, 0)


def test_dcgm_mig_engine_active_is_read(ask):
    [(status, _, _)] = loads(ask, "dcgm_scrape/ald03_20260505T000000Z.prom")
    assert status == "loaded"


def test_dcgm_power_violation_at_tdp_is_no_incident(ask):
    assert ask(
        "select count(*) from marts.fct_energy_constraint_incidents"
        " where site_id = 'alder' and contains(signals, 'power_capping')"
    ) == [(0,)]


# FOCUS


def charges(folder: Path, case: str) -> Ask:
    """A case's bill; those of Example Cloud are of the demo's cloud, the others of cloud-x."""
    if case in ("focus-hour-units", "focus-lines-of-one-key"):
        book = Book(folder / "data")
        declare(book)
    else:
        book = with_base_reference(folder)
    land(book, case, "focus")
    return build(book, "int_cloud_workload_hours")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("focus-correction", [("train", 8, 60)]),
        ("focus-credit-refund", [("train", 8, 0)]),
        ("focus-daily-rows", [("train", 192, 1920)]),
        ("focus-null-effective-cost", [("train", 8, 80)]),
        ("focus-two-price-tiers", [("train", 8, 65)]),
    ],
)
def test_focus_bills_come_to_what_was_used_and_paid(tmp_path, case, expected):
    ask = charges(tmp_path, case)
    assert (
        ask(
            "select workload_id, sum(allocated_gpu_hours), sum(cloud_cost)"
            " from intermediate.int_cloud_workload_hours group by workload_id order by workload_id"
        )
        == expected
    )


def test_focus_hour_units_all_count_their_hours(tmp_path):
    ask = charges(tmp_path, "focus-hour-units")
    assert ask(
        "select count(*), count(gpu_hours), min(gpu_hours), max(gpu_hours)"
        " from staging.stg_cloud_charges"
    ) == [(7, 7, 8, 8)]


def test_focus_lines_of_one_key_all_count(tmp_path):
    ask = charges(tmp_path, "focus-lines-of-one-key")
    assert ask("select count(*), sum(source_effective_cost) from staging.stg_cloud_charges") == [
        (6, 125)
    ]


# Files that load in a book of their own


def loaded(folder: Path, case: str, landing_format: str) -> tuple[Book, list[tuple[Any, ...]]]:
    """A case of the demo's reference data, loaded; of each file status, rows and rows left out."""
    book = Book(folder / "data")
    declare(book)
    land(book, case, landing_format)
    summary = lake.load(book)
    return book, [
        (record.status, record.row_count, record.left_out_row_count) for record in summary.records
    ]


def rows(book: Book, table: str) -> pl.DataFrame:
    return pl.read_parquet(book.lake / table / "**" / "*.parquet")


def test_openadr_continuous_intervals_follow_one_another(tmp_path):
    book, records = loaded(tmp_path, "openadr-continuous-intervals", "openadr")
    assert [status for status, _, _ in records] == ["loaded"]
    events = rows(book, "grid_events").sort("started_at")
    assert events.select("started_at", "import_limit_kw").rows() == [
        (at(10, 6, 0), 2000),
        (at(10, 6, 6), 1000),
        (at(10, 6, 12), 1500),
        (at(10, 6, 18), 2400),
    ]
    assert events["ended_at"].to_list() == [at(10, 6, 6), at(10, 6, 12), at(10, 6, 18), at(10, 7)]


def test_openadr_several_targets_of_which_one_is_a_site_are_no_fault(tmp_path):
    book, [(status, row_count, left_out)] = loaded(tmp_path, "openadr-several-targets", "openadr")
    assert (status, row_count, left_out) == ("loaded", 1, 1)
    assert rows(book, "grid_events")["target"].to_list() == ["juelich-poc"]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("elapsed_only.txt", ("alder", "605547", 3 * 86400 + 8 * 3600 + 24 * 60 + 4, None)),
        ("no_cluster.txt", ("alder", "271409", 1626, 1)),
    ],
)
def test_sacct_without_elapsedraw_or_cluster_is_read(file, expected):
    # The first is of a year before the small world's, so it is read and not loaded.
    jobs = sacct.read(
        (CASES / "sacct-without-elapsedraw" / file).read_bytes(),
        file_name=f"sacct/alder/{file}",
        context=Context({"alder": "Europe/Berlin", "cedar": "America/Chicago"}),
    )["jobs"]
    assert jobs.select("cluster", "job_id", "elapsed_s", "gpu_count").rows() == [expected]


def test_dcgm_any_hostname_can_be_declared(tmp_path):
    book = with_base_reference(tmp_path)
    site = book.reference / "sites/alder.yml"
    group = (
        "\n  - {hostnames: [worker-9k2xq], gpus_per_node: 1, gpu_model: H100-SXM5,"
        " host_idle_w: 200, host_peak_w: 400}\nterms:"
    )
    site.write_text(site.read_text().replace("\nterms:", group))
    land(book, "dcgm-any-hostname", "dcgm_scrape")
    summary = lake.load(book)
    assert [(record.status, record.row_count) for record in summary.records] == [("loaded", 1)]


def power_of_pods(held: dict[int, tuple[str, str]]) -> str:
    """An hour of alder's boards every 5 minutes, as Prometheus has them of a Kubernetes cluster.

    The boards of nodes that are held draw 500 W and are busy, the others 100 W.
    """
    first = int(at(5, 4, 9, 55).timestamp())
    exporter = {"namespace": "gpu-operator", "container": "nvidia-dcgm-exporter"}
    series = []
    for node in range(1, 9):
        namespace, pod = held.get(node, ("", ""))
        workload = {"exported_namespace": namespace, "exported_pod": pod} if pod else {}
        for metric, value in (
            ("DCGM_FI_DEV_POWER_USAGE", "500" if pod else "100"),
            ("DCGM_FI_DEV_GPU_UTIL", "95" if pod else "0"),
        ):
            series += [
                {
                    "metric": {
                        "__name__": metric,
                        "Hostname": f"ald{node:02}",
                        "gpu": str(gpu),
                        "pod": f"nvidia-dcgm-exporter-{node}",
                        **exporter,
                        **workload,
                    },
                    "values": [[first + 300 * step, value] for step in range(15)],
                }
                for gpu in range(4)
            ]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}})


def test_pods_that_telemetry_names_have_gpu_hours_energy_and_carbon_without_a_scheduler(tmp_path):
    book = with_base_reference(tmp_path)
    site, workloads = book.reference / "sites/alder.yml", book.reference / "workloads.yml"
    site.write_text(f"{site.read_text()}holders: telemetry\n")
    rule = "rules:\n  - {cluster: alder, account: serving, workload_id: serve}\n"
    workloads.write_text(workloads.read_text().replace("rules:\n", rule))
    small_world.write(book.data_dir)
    held = {node: ("research", f"train-{node}") for node in (1, 2, 3, 4)} | {5: ("serving", "chat")}
    small_world.put(book.data_dir, "prometheus/pods.json", power_of_pods(held))
    # What OpenCost tells of the same pods would count them twice.
    land(book, "slurm-cpu-only-job", "sacct")
    lake.load(book)
    warehouse.roll_up(warehouse.plan(book))
    ask = build(book, "fct_workload_energy")
    # A held node drew 0.5 kWh and its host 0.1, a free one 0.1 and 0.05: of the 6 kWh of IT 2.4,
    # 0.6 and 0.45 parts in 3.45.
    assert ask(
        "select workload_id, allocated_gpu_hours, energy_kwh"
        " from intermediate.int_workload_intervals where site_id = 'alder'"
        " and interval_started_at = '2026-05-04 10:15:00+00' and workload_id <> 'overhead'"
        " order by workload_id"
    ) == [
        ("idle", 0, near(6 * 0.45 / 3.45)),
        ("serve", 1, near(6 * 0.6 / 3.45)),
        ("train", 4, near(6 * 2.4 / 3.45)),
    ]
    # Before the samples begin and after they end it is not known, and not idle.
    assert ask(
        "select count(*), count(*) filter (where is_known) from intermediate.int_job_coverage"
        " where site_id = 'alder' and utc_date = '2026-05-04'"
    ) == [(96, 4)]
    assert ask(
        "select workload_id, allocated_gpu_hours, energy_kwh > 0, location_based_kg > 0"
        " from marts.fct_workload_energy where site_id = 'alder' and local_date = '2026-05-04'"
        " and workload_id in ('serve', 'train') order by workload_id"
    ) == [("serve", 4, True, True), ("train", 16, True, True)]


def test_green_button_three_series_of_which_the_energy_counts():
    file = CASES / "green-button-three-series/series.xml"
    readings = green_button.read(file.read_bytes(), file_name=file.name, context=Context({}))[
        "meter_readings"
    ]
    assert readings.group_by("reject_reason", "left_out_reason").len().sort(
        "left_out_reason", nulls_last=False
    ).rows() == [
        (None, None, 2),
        (None, "uom 38: no active energy", 2),
        (None, "uom 61: no active energy", 2),
    ]


def test_green_button_net_is_refused(tmp_path):
    _, [(status, row_count, _)] = loaded(tmp_path, "green-button-net", "green_button")
    assert status in ("failed", "partial")
    assert row_count == 0


def test_ercot_dst_flag_tells_the_repeated_hour(tmp_path):
    book = with_base_reference(tmp_path)
    land(book, "ercot-dst-flag", "prices_csv")
    lake.load(book)
    prices = rows(book, "market_prices").filter(
        pl.col("interval_started_at").is_between(at(11, 1, 6), at(11, 1, 7))
    )
    assert prices.sort("interval_started_at").select(
        "interval_started_at", "price_per_mwh"
    ).rows() == [(at(11, 1, 6), 2), (at(11, 1, 7), 2.5)]


def test_dst_25_hours_are_all_there(tmp_path):
    book = with_base_reference(tmp_path)
    for file, landing_format in (("DE_20261025.xml", "entsoe"), ("sacct.txt", "sacct")):
        small_world.put(
            book.data_dir,
            f"{landing_format}/{file}",
            (CASES / "dst-25-hours" / file).read_text(),
        )
    lake.load(book)
    prices = rows(book, "market_prices").filter(
        pl.col("interval_started_at").is_between(at(10, 24, 22), at(10, 25, 22, 45))
    )
    assert len(prices.unique("interval_started_at")) == 100
    jobs = rows(book, "jobs").sort("job_id")
    spans = (jobs["ended_at"] - jobs["started_at"]).dt.total_seconds().to_list()
    # 02:30 in summer time to 02:10 in winter time, and midnight to four o'clock.
    assert [seconds * 4 / 3600 for seconds in spans] == [near(8 / 3), near(20)]


# What reference data can say


@pytest.mark.parametrize("settlement_minutes", ["60", "15"])
def test_eeg_4h_rule_counts_hours_whatever_the_settlement(tmp_path, settlement_minutes):
    """Of 24 hours of 4 MWh the four of mean -13 are void, though a quarter of each is not."""
    book = with_base_reference(tmp_path)
    contract = (CASES / "eeg-4h-rule/alder-cfd.yml").read_text()
    if settlement_minutes != "60":
        contract = contract.replace(
            "settlement_period_minutes: 60", "settlement_period_minutes: 15"
        ).replace(
            "negative_price_hours: 4", "negative_price_hours: 4, negative_price_period_minutes: 60"
        )
    (book.reference / "contracts/alder-cfd.yml").write_text(contract)
    # NEM12 counts its days in the time of Brisbane.
    days = [date(2026, 10, 26), date(2026, 10, 27)]
    small_world.put(
        book.data_dir,
        "nem12/alder.csv",
        small_world.nem12(
            [("ALDGRID001", "E1", lambda d, q: 7.2), ("ALDPLANT01", "B1", lambda d, q: 1000)], days
        ),
    )
    small_world.put(
        book.data_dir, "entsoe/DE.xml", (CASES / "eeg-4h-rule/DE_20261026.xml").read_text()
    )
    ask = build(book, "int_contract_volumes")
    assert ask(
        "select sum(volume_mwh), count(volume_mwh) from intermediate.int_contract_volumes"
        " where local_date = '2026-10-26'"
    ) == [(80, 96)]


def test_a_plant_settles_though_its_site_has_no_meter_that_was_ever_read(tmp_path):
    """4 MWh each hour at 60 less 100: of a day in Berlin 96 MWh and -3,840 EUR."""
    book = with_base_reference(tmp_path)
    # NEM12 counts its days in the time of Brisbane.
    days = [date(2026, 5, 5), date(2026, 5, 6)]
    small_world.put(
        book.data_dir,
        "nem12/plant.csv",
        small_world.nem12([("ALDPLANT01", "B1", lambda d, q: 1000)], days),
    )
    small_world.put(book.data_dir, "entsoe/DE.xml", small_world.day_ahead(days[0], 100))
    ask = build(book, "fct_contract_settlements")
    assert ask("select count(*) from intermediate.int_site_intervals") == [(0,)]
    assert ask(
        "select sum(quantity), sum(amount), count(*) from marts.fct_contract_settlements"
        " where contract_id = 'alder-cfd' and local_date = '2026-05-05'"
    ) == [(96, -3840, 96)]


def test_cfd_monthly_reference_is_read(tmp_path):
    """How it settles is worked out beside int_contract_volumes."""
    book = with_base_reference(tmp_path)
    shutil.copyfile(
        CASES / "cfd-monthly-reference/alder-cfd.yml", book.reference / "contracts/alder-cfd.yml"
    )
    tables = reference.flatten(reference.load(book.reference))
    assert tables["contracts"].filter(pl.col("contract_id") == "alder-cfd")["kind"].to_list() == [
        "vppa_cfd"
    ]


def test_fx_weekend_needs_no_rate_of_its_own(tmp_path):
    book = with_base_reference(tmp_path)
    shutil.copyfile(CASES / "fx-weekend/fx_rates.csv", book.reference / "fx_rates.csv")
    ask = build(book, "stg_fx_rates")
    assert ask(
        "select rate_date, rate_to_reporting from staging.stg_fx_rates"
        " where currency_code = 'USD' and rate_date between '2026-01-02' and '2026-01-05'"
        " order by rate_date"
    ) == [
        (date(2026, 1, 2), 0.861),
        (date(2026, 1, 3), 0.861),
        (date(2026, 1, 4), 0.861),
        (date(2026, 1, 5), 0.86383),
    ]
