"""Which model may read which: the rule that `dbt_project.yml` states, by layer and by subject."""

from typing import Any

import pytest
import yaml

from pipelines import warehouse
from pipelines.lake.schemas import RAW_TABLES

SUBJECTS: list[str] = yaml.safe_load((warehouse.PROJECT_DIR / "dbt_project.yml").read_text())[
    "vars"
]["subjects"]
LOADED = {
    *RAW_TABLES,
    "job_nodes",
    "undeclared_names",
    "gpu_intervals",
    "node_intervals",
    "pod_intervals",
    "raw_loads",
}
READS_LOADED = {
    ("fct_data_quality", "raw_loads"): "it counts what loading did",
    ("focus_charges", "cloud_charges"): "a cloud's own lines go through as they came",
    ("int_invoice_readings", "meter_readings"): "an invoice is judged by what was known then",
}
"""Models other than staging that read what was loaded, and why."""


# In the process that has the manifest.
pytestmark = pytest.mark.xdist_group("dbt_project")


@pytest.fixture(scope="module")
def models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Models by unique id."""
    return {
        key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"
    }


@pytest.fixture(scope="module")
def reads(models: dict[str, dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(a model, another that it reads)."""
    return [
        (model, models[parent])
        for model in models.values()
        for parent in model["depends_on"]["nodes"]
        if parent in models
    ]


def layer(model: dict[str, Any]) -> str:
    return str(model["name"]).split("_")[0]


def subject(model: dict[str, Any]) -> int:
    return SUBJECTS.index(model["fqn"][1])


def test_every_model_lies_in_the_folder_of_its_subject_and_the_schema_of_its_layer(models):
    prefixes = {
        "staging": {"stg"},
        "intermediate": {"int"},
        "calculations": {"calc"},
        "marts": {"dim", "fct", "kpi", "governance", "focus"},
    }
    assert [
        model["name"]
        for model in models.values()
        if model["fqn"][1:-1] not in [[name] for name in SUBJECTS]
        or layer(model) not in prefixes[model["schema"]]
    ] == []


def test_every_subject_has_a_model(models):
    assert {model["fqn"][1] for model in models.values()} == set(SUBJECTS)


def test_staging_reads_raw_tables_and_exchange_rates_alone(reads):
    assert {
        (model["name"], parent["name"]) for model, parent in reads if layer(model) == "stg"
    } <= {(model["name"], "stg_fx_rates") for model, _ in reads}


def test_what_is_intermediate_reads_no_mart_and_no_calculation(reads):
    assert [
        (model["name"], parent["name"])
        for model, parent in reads
        if layer(model) == "int" and layer(parent) not in ("stg", "int")
    ] == []


def test_marts_and_calculations_read_those_of_their_own_subject_and_of_those_before(reads):
    assert [
        (model["name"], parent["name"])
        for model, parent in reads
        if layer(parent) not in ("stg", "int") and subject(parent) > subject(model)
    ] == []


def test_every_calculation_reads_a_mart_at_some_remove(models):
    """Else it is intermediate."""

    def reads_mart(key: str) -> bool:
        return any(
            models[parent]["schema"] == "marts"
            or (layer(models[parent]) == "calc" and reads_mart(parent))
            for parent in models[key]["depends_on"]["nodes"]
            if parent in models
        )

    assert [
        model["name"]
        for key, model in models.items()
        if layer(model) == "calc" and not reads_mart(key)
    ] == []


def test_what_was_loaded_is_read_by_staging_alone_but_for_stated_reasons(manifest, models):
    assert {
        (model["name"], manifest["sources"][parent]["name"])
        for model in models.values()
        for parent in model["depends_on"]["nodes"]
        if layer(model) != "stg"
        and parent in manifest["sources"]
        and manifest["sources"][parent]["name"] in LOADED
    } == set(READS_LOADED)


def test_only_marts_have_an_audience(models):
    assert [
        model["name"]
        for model in models.values()
        if model["schema"] != "marts" and model["config"]["meta"].get("audience")
    ] == []
