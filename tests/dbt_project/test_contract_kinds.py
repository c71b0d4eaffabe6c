"""Every kind of contract is settled by what it declares, worked out, shown and described."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from pipelines import reference, warehouse
from pipelines.reference.contracts import KINDS
from pipelines.simulator.landing import DEMO_REFERENCE

PROJECT = Path(__file__).parents[2]
FIXTURES = warehouse.PROJECT_DIR / "tests" / "fixtures"
EXAMPLES = PROJECT / "tests" / "reference" / "test_contract_terms.py"


# In the process that has the manifest.
pytestmark = pytest.mark.xdist_group("dbt_project")


@pytest.fixture(scope="module")
def settlement_models(manifest: dict[str, Any]) -> set[str]:
    """What fct_contract_settlements puts together."""
    node = manifest["nodes"]["model.wattbook.fct_contract_settlements"]
    return {
        name
        for name in (parent.rsplit(".", 1)[-1] for parent in node["depends_on"]["nodes"])
        if name.endswith("_settlements")
    }


def unit_tests_of(manifest: dict[str, Any], kind: str) -> set[str]:
    """Models with a unit test in which a contract of the kind is given."""
    tests = manifest["unit_tests"].values()
    return {
        test["model"]
        for test in tests
        for given in test["given"]
        if given["format"] == "dict"
        if any(kind in (row.get("kind"), row.get("contract_kind")) for row in given["rows"])
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_settled_by_a_model_that_the_settlements_read(kind, settlement_models):
    assert KINDS[kind].settlement_model in settlement_models, (
        f"{kind}: add its settlement_model to those that fct_contract_settlements.sql reads"
    )


def test_every_settlement_model_settles_a_kind(settlement_models):
    assert settlement_models == {model.settlement_model for model in KINDS.values()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_worked_out_in_a_unit_test_of_its_settlement_model(kind, manifest):
    model = KINDS[kind].settlement_model
    assert model in unit_tests_of(manifest, kind), (
        f"{kind}: give a contract of it to a unit test in {model}.yml and work out its lines by"
        " hand"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_an_example(kind):
    files = [file.read_text() for file in (DEMO_REFERENCE / "contracts").glob("*.yml")]
    kinds = {str(yaml.safe_load(text)["kind"]) for text in files}
    kinds |= set(re.findall(r"^kind: (\w+)$", EXAMPLES.read_text(), re.MULTILINE))
    assert kind in kinds, (
        f"{kind}: add a contract of it to data/reference/contracts/ or to"
        f" {EXAMPLES.relative_to(PROJECT)}"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_row_in_the_readme_with_lines_it_declares(kind):
    row = re.search(
        rf"^\| `{kind}` \|[^|]+\|[^|]+\| ([^|]+) \|$",
        (PROJECT / "README.md").read_text(),
        re.MULTILINE,
    )
    assert row, f"{kind}: add a row to the table of kinds in README.md: volume, price, lines"
    lines = list(KINDS[kind].lines)
    # What every power purchase agreement may settle besides stands below the table.
    shared = ["certificates", "shortfall", "excess"] if KINDS[kind].is_ppa else []
    assert row[1].split(", ") == [line for line in lines if line not in shared]


@pytest.mark.parametrize("table", ["contract_kinds", "contract_lines"])
def test_unit_tests_are_given_the_kinds_as_they_are_declared(table):
    declared = reference.flatten(reference.load(DEMO_REFERENCE))[table]
    file = FIXTURES / f"{table}.csv"
    assert file.read_text() == declared.write_csv(), (
        f"{file.relative_to(PROJECT)}: found other rows than pipelines/reference/contracts/"
        f" declares, expected these:\n{declared.write_csv()}"
    )


def test_lines_belong_to_components_that_paid_costs_count(manifest):
    columns = manifest["nodes"]["model.wattbook.calc_paid_costs"]["columns"]
    declared = reference.flatten(reference.load(DEMO_REFERENCE))["contract_lines"]
    components = declared.filter(pl.col("cost_component").is_not_null())["cost_component"].unique()
    assert {f"{component}_cost" for component in components} <= set(columns), (
        "expected each cost_component to be one of the components in calc_paid_costs.sql"
    )


def test_no_query_lists_the_kinds_of_power_purchase_agreements():
    ppas = [kind for kind, model in KINDS.items() if model.is_ppa]
    files = [
        *(warehouse.PROJECT_DIR / "models").rglob("*.sql"),
        *(PROJECT / "pipelines" / "pack").glob("*.py"),
    ]
    assert [
        str(file.relative_to(PROJECT))
        for file in files
        if any(f"'{kind}'" in file.read_text() for kind in ppas) or "'ppa_%'" in file.read_text()
    ] == [], "expected a column of contract_kinds instead: declare what the kind is on its model"
