"""Deferred work of the demo against a calculation job by job, minute by minute."""

from datetime import UTC, date, datetime, timedelta

import duckdb
import polars as pl
import pytest

from pipelines.book import Book

PRICE_STOP_ENDED_AT = datetime(2026, 8, 27, 23, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def tables(demo_book: Book) -> dict[str, pl.DataFrame]:
    queries = {
        "jobs": "from staging.stg_jobs"
        " where site_id = 'franklin' and workload_id = 'batch-evaluation'",
        "marginal": "from marts.fct_marginal_cost where site_id = 'franklin'",
        "deferrals": "from marts.fct_deferrals order by local_date",
        "losses": "from calculations.calc_incident_losses where criticality = 'tolerant'",
    }
    with duckdb.connect(str(demo_book.warehouse), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        return {
            name: pl.from_arrow(connection.sql(query).to_arrow_table())
            for name, query in queries.items()
        }


def cost_of(marginal: pl.DataFrame, started_at: datetime, seconds: float) -> float:
    """Energy, network and levies of one GPU from an instant on, by the second's interval."""
    price = dict(
        marginal.select(
            "interval_started_at",
            pl.col("marginal_energy_cost_per_gpu_hour")
            + pl.col("network_and_levies_cost_per_gpu_hour"),
        ).iter_rows()
    )
    total = 0.0
    for second in range(int(seconds)):
        instant = started_at + timedelta(seconds=second)
        quarter = instant.replace(minute=instant.minute // 15 * 15, second=0, microsecond=0)
        total += price[quarter] / 3600
    return total


def test_the_price_stop_put_work_off_that_was_caught_up_cheaper_the_same_day(
    tables: dict[str, pl.DataFrame],
):
    jobs = tables["jobs"]
    stopped = jobs.filter(pl.col("comment") == "energy:price_stop").sort("gpu_count", "ended_at")
    resumed = jobs.filter(
        pl.col("submitted_at").is_between(
            datetime(2026, 8, 27, 22, tzinfo=UTC), PRICE_STOP_ENDED_AT
        )
        & pl.col("started_at").gt(stopped["ended_at"].min())
    )
    gpu_hours, saved = 0.0, 0.0
    for size in stopped["gpu_count"].unique():
        pairs = zip(
            stopped.filter(pl.col("gpu_count") == size).iter_rows(named=True),
            resumed.filter(pl.col("gpu_count") == size).sort("submitted_at").iter_rows(named=True),
            strict=False,
        )
        for before, after in pairs:
            put_off = min(PRICE_STOP_ENDED_AT, after["started_at"]) - before["ended_at"]
            ran = after["ended_at"] - after["started_at"]
            seconds = min(put_off, ran).total_seconds()
            gpu_hours += size * seconds / 3600
            saved += size * (
                cost_of(tables["marginal"], before["ended_at"], seconds)
                - cost_of(tables["marginal"], after["started_at"], seconds)
            )

    row = tables["deferrals"].filter(pl.col("local_date") == date(2026, 8, 27)).row(0, named=True)
    assert row["deferred_gpu_hours"] == pytest.approx(gpu_hours, abs=1e-6)
    assert row["caught_up_gpu_hours"] == pytest.approx(gpu_hours, abs=1e-6)
    assert row["saved_cost"] == pytest.approx(saved, rel=1e-9)


def test_no_more_is_put_off_than_incidents_took_from_tolerant_work(
    tables: dict[str, pl.DataFrame],
):
    shed = tables["losses"]["shed_gpu_hours"].sum()
    put_off = tables["deferrals"]["deferred_gpu_hours"].sum()

    assert 0 < put_off <= shed


def test_what_a_full_connection_could_not_serve_is_worth_its_price(tables: dict[str, pl.DataFrame]):
    curtailed = tables["deferrals"].filter(pl.col("local_date") == date(2026, 8, 20))

    assert curtailed.select(
        "saved_cost", "saved_location_based_kg", "coverage_ratio", "outstanding_gpu_hours"
    ).rows() == [(pytest.approx(-0.338532, abs=1e-6), None, 1.0, 0.0)]
