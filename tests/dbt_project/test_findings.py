"""What the demo's data breaks, and what holds of it though other data may break it.

The arithmetic of each rule is tested beside its model, on rows worked out by hand.
"""

from datetime import timedelta

import duckdb
import pytest

from pipelines.simulator import events


@pytest.fixture(scope="module")
def warehouse(demo_book):
    with duckdb.connect(str(demo_book.warehouse), read_only=True) as connection:
        connection.execute("set timezone = 'UTC'")
        yield connection


def test_the_demo_breaks_no_rule_but_where_that_was_placed_in_it(warehouse):
    _, frozen = events.FROZEN_COUNTER
    _, unlisted_at = events.MISSING_ACCOUNTING
    assert warehouse.execute(
        "select rule_id, any_value(site_id), min(started_at), max(ended_at),"
        " max(occurrence_count) from marts.fct_findings group by rule_id order by rule_id"
    ).fetchall() == [
        (
            "battery_stock_jump",
            "sparks",
            events.BATTERY_FALSE_SAMPLE_AT - timedelta(minutes=5),
            events.BATTERY_FALSE_SAMPLE_AT + timedelta(minutes=10),
            1,
        ),
        # The step that ends at the first sample of the twelve hours began before them.
        (
            "gpu_counter_stands_still",
            "juelich",
            frozen.started_at - timedelta(minutes=15),
            frozen.ended_at,
            49,
        ),
        ("job_without_end", "sparks", unlisted_at, unlisted_at + timedelta(days=1), 1),
        ("jobs_not_listed", "sparks", unlisted_at, unlisted_at + timedelta(days=1), 96),
        (
            "meter_gap",
            "sparks",
            events.MISSING_READ.started_at,
            events.ABSENT_READ.ended_at,
            12,
        ),
    ]


@pytest.mark.parametrize(
    ("table", "broken"),
    [
        # Two meters of class 1 may each be off by 1 % in opposite directions.
        ("fct_energy_balance", "pue_ratio < 0.98"),
        # Meters of one accuracy class may differ by 0.5 % each way.
        ("fct_reconciliation", "gpu_to_node_gap_kwh < 0"),
        ("fct_reconciliation", "node_to_it_gap_kwh < -0.005 * it_kwh"),
        ("fct_reconciliation", "it_to_facility_gap_kwh < -0.005 * facility_kwh"),
        # Capacity fades between two samples, and the stock that closes an interval is the next's.
        ("fct_battery_ledger", "least(opening_stored_kwh, closing_stored_kwh) < 0"),
        (
            "fct_battery_ledger",
            "greatest(opening_stored_kwh, closing_stored_kwh) > capacity_kwh * 1.005",
        ),
    ],
)
def test_the_demo_nests_and_its_stocks_stay_within_capacity(warehouse, table, broken):
    count = f"select count(*), count(*) filter (where {broken}) from marts.{table}"
    rows, found = warehouse.execute(count).fetchone()
    assert rows > 0
    assert found == 0
