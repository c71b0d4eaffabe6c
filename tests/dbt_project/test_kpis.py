"""The KPIs that dbt_project.yml declares: read from columns there are, known as far as they are."""

from typing import Any

import pytest
import yaml

from pipelines import warehouse
from pipelines.connectors import FORMATS
from pipelines.reference.project import headline_kpis, kpi_inputs

KPIS: list[dict[str, Any]] = yaml.safe_load(
    (warehouse.PROJECT_DIR / "dbt_project.yml").read_text()
)["vars"]["kpis"]


def columns(model: str) -> set[str]:
    file = warehouse.PROJECT_DIR / "models" / "governance" / f"{model}.yml"
    [properties] = yaml.safe_load(file.read_text())["models"]
    return {column["name"] for column in properties["columns"]}


@pytest.mark.parametrize("model", ["kpi_site_weekly", "kpi_organization_weekly"])
def test_kpis_are_read_from_columns_of_both_weekly_tables(model):
    read = {name for kpi in KPIS for name in (kpi["value_column"], *kpi["coverage_columns"])}
    assert read - columns(model) == set()


def test_a_kpi_is_declared_once():
    names = [kpi["kpi_id"] for kpi in KPIS]
    assert sorted(set(names)) == sorted(names)


def test_each_kpi_is_known_as_far_as_what_it_is_made_of():
    made_of = {
        "availability": ["availability_coverage_ratio"],
        "incident": ["availability_coverage_ratio"],
        "local_time_availability": ["coverage_ratio"],
        "marginal_cost": ["marginal_cost_coverage_ratio"],
        "g_per_kwh": ["carbon_coverage_ratio", "coverage_ratio"],
        "carbon_free": ["carbon_coverage_ratio", "coverage_ratio"],
    }
    for kpi in KPIS:
        known = [made_of[subject] for subject in made_of if subject in kpi["value_column"]]
        # "local_time_availability" fits after "availability" and says more.
        assert not known or kpi["coverage_columns"] == known[-1], kpi["kpi_id"]


def test_each_input_is_of_kpis_that_head_the_pack_and_says_where_it_comes_from():
    inputs = kpi_inputs()
    required = {"input_id", "name", "kpi_ids", "venue_kinds", "landing_formats", "reference_field"}
    assert len({one["input_id"] for one in inputs}) == len(inputs)
    for one in inputs:
        assert required <= one.keys() <= required | {"needed_where", "without", "is_either"}, one[
            "input_id"
        ]
        assert one["kpi_ids"]
        assert set(one["kpi_ids"]) <= set(headline_kpis())
        assert set(one["landing_formats"]) <= set(FORMATS)
        assert set(one["venue_kinds"]) <= {"own_site", "hpc_allocation", "public_cloud"}


def test_without_a_reading_of_the_grid_meter_no_kpi_of_a_site_is_known():
    [meter] = [one for one in kpi_inputs() if one["input_id"] == "site_meter"]
    assert meter["kpi_ids"] == list(headline_kpis())
    assert "without" not in meter
