"""Placement options of the demo against a calculation from raw bills and the marginal cost."""

from typing import Any

import duckdb
import polars as pl
import pytest

from pipelines.book import Book

WEEK = "2026-W44"


@pytest.fixture(scope="module")
def tables(demo_book: Book) -> dict[str, pl.DataFrame]:
    queries = {
        "charges": "from staging.stg_cloud_charges"
        " where workload_tag = 'batch-evaluation' and charge_category = 'Usage'"
        " and pricing_category = 'Standard'",
        "unused": "from staging.stg_cloud_charges where is_unused_commitment",
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


def test_waiting_saves_what_the_hours_so_much_later_cost_less(tables: dict[str, pl.DataFrame]):
    row = option(tables, "batch-evaluation", "cloud-us-south")
    bought = (
        tables["charges"].group_by(hour="charge_period_started_at").agg(pl.col("gpu_hours").sum())
    )
    unused = tables["unused"].select(
        hour=pl.col("charge_period_started_at") - pl.duration(hours=row["best_delay_hours"]),
        free="unused_gpu_hours",
    )
    prices = (
        tables["marginal"]
        .filter(pl.col("site_id") == "cloud-us-south")
        .select(hour="interval_started_at", price="marginal_cost_per_gpu_hour")
    )
    hours = bought.join(prices, on="hour").join(unused, on="hour")
    moved = pl.min_horizontal("gpu_hours", "free")

    assert row["delayed_gpu_hours"] == pytest.approx(hours.select(moved.sum()).item(), abs=1e-6)
    assert row["delay_saving_value"] == pytest.approx(
        hours.select((moved * pl.col("price")).sum()).item(), rel=1e-9
    )


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
