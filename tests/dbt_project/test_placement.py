"""Placement options of the demo against a calculation from raw bills and the marginal cost."""

from datetime import timedelta
from itertools import accumulate
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest

from pipelines.book import Book

WEEK = "2026-W44"
BERLIN = ZoneInfo("Europe/Berlin")
QUARTER = timedelta(minutes=15)
WEEK_QUARTERS = timedelta(weeks=1) // QUARTER
# In data/reference/organization.yml.
CARBON_PRICE_PER_TONNE = 100


@pytest.fixture(scope="module")
def tables(demo_book: Book) -> dict[str, pl.DataFrame]:
    queries = {
        "charges": "from staging.stg_cloud_charges"
        " where workload_id = 'batch-evaluation' and charge_category = 'Usage'"
        " and pricing_category = 'Standard'",
        "jobs": "from staging.stg_jobs where workload_id = 'batch-evaluation'"
        " and site_id = 'franklin' and gpu_count > 0 order by started_at, job_id",
        "quarters": "from calculations.calc_venue_intervals where site_id = 'franklin'"
        " and interval_started_at >= '2026-10-08' order by interval_started_at",
        "delays": "select week, best_delay_hours from marts.fct_placement_options"
        " where workload_id = 'batch-evaluation' and site_id = 'franklin'"
        f" and week between '2026-W43' and '{WEEK}'",
        "marginal": f"from marts.fct_marginal_cost where week = '{WEEK}'",
        "options": f"from marts.fct_placement_options where week = '{WEEK}'",
    }
    with duckdb.connect(str(demo_book.warehouse), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        return {
            name: pl.from_arrow(connection.sql(query).to_arrow_table())
            for name, query in queries.items()
        }


def option(tables: dict[str, pl.DataFrame], workload_id: str, site_id: str) -> dict[str, Any]:
    return (
        tables["options"]
        .filter(pl.col("workload_id") == workload_id, pl.col("site_id") == site_id)
        .row(0, named=True)
    )


def test_moving_work_home_from_the_cloud_saves_its_on_demand_bill_less_the_energy(
    tables: dict[str, pl.DataFrame],
):
    cost = pl.col("marginal_cost_per_gpu_hour")
    marginal = tables["marginal"].with_columns(hour=pl.col("interval_started_at").dt.truncate("1h"))
    at_home = (
        marginal.filter(pl.col("site_id") == "franklin").group_by("hour").agg(home_cost=cost.mean())
    )
    in_cloud = marginal.filter(pl.col("site_id") == "cloud-us-south").select(
        "hour", cloud_cost=cost
    )
    hours = (
        tables["charges"]
        .group_by(hour="charge_period_started_at")
        .agg(pl.col("gpu_hours").sum())
        .join(in_cloud, on="hour")
        .join(at_home, on="hour")
    )
    saving = hours["gpu_hours"] * (hours["cloud_cost"] - hours["home_cost"])

    row = option(tables, "batch-evaluation", "franklin")
    assert row["is_allowed"]
    assert row["movable_gpu_hours"] == pytest.approx(hours["gpu_hours"].sum(), abs=1e-6)
    assert row["move_saving_value"] == pytest.approx(saving.sum(), rel=1e-9)


def test_jobs_that_wait_whole_save_what_running_later_costs_less_where_the_week_before_said_so(
    tables: dict[str, pl.DataFrame],
):
    row = option(tables, "batch-evaluation", "franklin")
    delays = dict(tables["delays"].iter_rows())
    quarters = tables["quarters"]
    names = ["avoidable_cost_per_gpu_hour", "location_based_g_per_gpu_hour"]
    cost, carbon = (list(accumulate((quarters[name] / 4).to_list(), initial=0)) for name in names)
    free = (quarters["spare_gpu_hours"] * 4).to_list()
    left = free.copy()

    def later(sums: list[float], start: int, end: int, delay: int) -> float:
        return sums[end] - sums[start] - (sums[end + delay] - sums[start + delay])

    gpu_hours = saving = 0.0
    # What the week before puts off takes its free GPUs first.
    for job in tables["jobs"].iter_rows(named=True):
        year, number, _ = job["started_at"].astimezone(BERLIN).isocalendar()
        week = f"{year}-W{number}"
        if week not in delays:
            continue
        delay = delays[week] * 4
        start = (job["started_at"] - quarters["interval_started_at"][0]) // QUARTER
        end = start + round((job["ended_at"] - job["started_at"]) / QUARTER)
        before = (start - WEEK_QUARTERS, end - WEEK_QUARTERS, delay)
        needed = range(max(end, start + delay), end + delay)
        if (
            later(cost, *before) + later(carbon, *before) / 1e6 * CARBON_PRICE_PER_TONNE > 0
            and min(free[quarter] for quarter in needed) >= job["gpu_count"]
        ):
            for quarter in needed:
                left[quarter] -= job["gpu_count"]
            if week == WEEK and min(left[quarter] for quarter in needed) >= 0:
                held = job["gpu_count"] * (job["ended_at"] - job["started_at"]) / timedelta(hours=1)
                gpu_hours += held
                saving += held * 4 / (end - start) * later(cost, start, end, delay)

    assert row["delayed_gpu_hours"] == pytest.approx(gpu_hours, abs=1e-6)
    assert row["delay_saving_value"] == pytest.approx(saving, rel=1e-9)


@pytest.mark.parametrize(
    ("workload_id", "site_id", "refusal_reasons"),
    [
        pytest.param("climate-simulation", "juelich", None, id="where-it-runs-already"),
        pytest.param(
            "climate-simulation",
            "franklin",
            "venue_kind_not_allowed, country_not_allowed",
            id="sovereign-work-abroad",
        ),
        pytest.param("foundation-training", "sparks", None, id="tolerant-work-fits-in-part"),
        pytest.param(
            "search-inference", "sparks", "no_spare_capacity", id="sensitive-work-must-fit-whole"
        ),
        pytest.param(
            "assistant-inference",
            "juelich",
            "venue_kind_not_allowed, latency, no_spare_capacity, unknown_allocation",
            id="too-far-from-its-users",
        ),
    ],
)
def test_an_option_is_allowed_or_says_why_not(
    tables: dict[str, pl.DataFrame], workload_id: str, site_id: str, refusal_reasons: str | None
):
    row = option(tables, workload_id, site_id)

    assert (row["is_allowed"], row["refusal_reasons"]) == (refusal_reasons is None, refusal_reasons)


def test_gpu_hours_of_other_models_are_priced_but_not_added_up(tables: dict[str, pl.DataFrame]):
    row = option(tables, "materials-screening", "franklin")

    assert row["move_saving_per_gpu_hour"] > 0
    assert (row["is_same_gpu_model"], row["move_saving_value"]) == (False, None)
