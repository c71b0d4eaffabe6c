"""The manual's page of KPIs names what there is: columns, models and unit tests."""

import re
from pathlib import Path
from typing import Any

import yaml

from pipelines.warehouse import PROJECT_DIR

PAGE = Path(__file__).parents[1] / "docs" / "kpis.md"
MODELS: dict[str, dict[str, Any]] = {
    model["name"]: {
        "columns": {column["name"] for column in model["columns"]},
        "unit_tests": {test["name"] for test in declared.get("unit_tests", [])},
    }
    for file in PROJECT_DIR.glob("models/**/*.yml")
    for declared in [yaml.safe_load(file.read_text())]
    for model in declared.get("models", [])
}
DECLARED = (
    "full_power_ratio emission_factor_basis price_stop_per_mwh"
    # Signals and sources, which are values of a column.
    " grid_outage curtailment_order storage_unavailable storage_depleted power_capping price_stop"
    " connection_limit supply_shortfall workload_shed"
    " local_surplus grid battery constrained commitment on_demand unknown raw_loads"
)


def names() -> set[str]:
    """Names of one word that the page writes as code."""
    text = re.sub(r"```.*?```", "", PAGE.read_text(), flags=re.DOTALL)
    return set(re.findall(r"`([a-z][a-z0-9_]*)`", text))


def test_every_name_on_the_page_is_one_of_the_book():
    known = set(DECLARED.split()) | set(MODELS)
    for model in MODELS.values():
        known |= model["columns"] | model["unit_tests"]
    assert names() - known == set()


def test_every_column_of_the_weekly_table_is_on_the_page():
    assert MODELS["kpi_site_weekly"]["columns"] - names() == set()


def test_each_kpi_that_heads_the_pack_is_worked_out_by_a_unit_test():
    unit_tests = {test for model in MODELS.values() for test in model["unit_tests"]}
    sections = PAGE.read_text().split("\n## ")[1:5]
    assert [section.splitlines()[0] for section in sections] == [
        "Effective MW availability",
        "Marginal GPU-hour cost",
        "Carbon intensity",
        "Energy-constraint incidents",
    ]
    for section in sections:
        assert set(re.findall(r"`(\w+)`", section)) & unit_tests
        assert all(f"**{part}**" in section for part in ("Formula", "Source", "Coverage", "Absent"))
