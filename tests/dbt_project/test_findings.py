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
    false_sample = events.BATTERY_FALSE_SAMPLE_AT
    assert warehouse.execute(
        "select rule_id, site_id, subject_id, started_at, ended_at, occurrence_count"
        " from marts.fct_findings order by rule_id, started_at"
    ).fetchall() == [
        (
            "battery_stock_jump",
            "sparks",
            "sparks-second-life",
            false_sample - timedelta(minutes=5),
            false_sample + timedelta(minutes=10),
            1,
        ),
        (
            "meter_gap",
            "sparks",
            "SPK-COOL",
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
