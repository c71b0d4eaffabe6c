"""Small inputs that people in the field stumbled over: of each, the right value worked out by hand.

What belongs here: one test per folder of `tests/cases`, from a file in landing to the figure it
makes. What does not: the arithmetic of models and parsers, which is tested beside them.
"""

import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines import lake, warehouse
from pipelines.book import Book
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
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    cases = {path.name for path in CASES.iterdir() if path.is_dir()} - {"base", "__pycache__"}
    missing = {
        case for case in cases if not any(t.startswith(case.replace("-", "_")) for t in tests)
    }
    assert missing == set()


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
        " where site_id = 'alder' and list_contains(signals, 'power_capping')"
    ) == [(0,)]


# FOCUS


def charges(folder: Path, case: str) -> Ask:
    book = with_base_reference(folder)
    land(book, case, "focus")
    return build(book, "int_cloud_workload_hours")


def hours_and_costs(ask: Ask) -> list[tuple[Any, ...]]:
    return ask(
        "select workload_id, sum(allocated_gpu_hours), sum(cloud_cost)"
        " from intermediate.int_cloud_workload_hours group by workload_id order by workload_id"
    )


def test_focus_correction_stands_beside_the_charge(tmp_path):
    assert hours_and_costs(charges(tmp_path, "focus-correction")) == [("train", 8, 60)]


def test_focus_two_price_tiers_both_count(tmp_path):
    assert hours_and_costs(charges(tmp_path, "focus-two-price-tiers")) == [("train", 8, 65)]


def test_focus_daily_rows_are_hours_of_their_day(tmp_path):
    assert hours_and_costs(charges(tmp_path, "focus-daily-rows")) == [("train", 192, 1920)]


def test_focus_null_effective_cost_is_refused_alone(tmp_path):
    ask = charges(tmp_path, "focus-null-effective-cost")
    assert hours_and_costs(ask) == [("train", 8, 80)]
    assert loads(ask, "focus/null_eff.csv") == [("partial", 1, 1)]


def test_focus_credit_refund_goes_to_the_workload_whose_charge_it_refunds(tmp_path):
    assert hours_and_costs(charges(tmp_path, "focus-credit-refund")) == [("train", 8, 0)]


def example_cloud(folder: Path, case: str) -> Ask:
    """The case's bill in the small world, whose cloud is that of the bill."""
    book = with_base_reference(folder)
    site = book.data_dir / "reference/sites/cloud-x.yml"
    site.write_text(
        site.read_text()
        .replace("Nimbus", "Example Cloud")
        .replace("east-1", "us-south1")
        .replace("SKU-GPU8", "SKU-A3-HIGH")
    )
    land(book, case, "focus")
    return build(book, "stg_cloud_charges")


def test_focus_hour_units_are_hours_in_every_spelling(tmp_path):
    ask = example_cloud(tmp_path, "focus-hour-units")
    assert ask("select gpu_hours, count(*) from staging.stg_cloud_charges group by gpu_hours") == [
        (8, 7)
    ]


def test_focus_lines_of_one_key_all_count(tmp_path):
    ask = example_cloud(tmp_path, "focus-lines-of-one-key")
    assert ask("select count(*), sum(source_effective_cost) from staging.stg_cloud_charges") == [
        (6, 125)
    ]
