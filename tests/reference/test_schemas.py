"""JSON Schemas by which editors check reference files."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.reference import schemas
from pipelines.simulator.landing import DEMO_REFERENCE

DEMO_FILES = sorted(DEMO_REFERENCE.rglob("*.yml"))


class AsEditorsRead(yaml.SafeLoader):
    """Dates stay text, as in JSON."""


AsEditorsRead.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def faults(schema_name: str, value: Any) -> list[str]:
    schema = schemas.schemas()[schema_name]
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]


def named_schema(file: Path) -> Path:
    first_line = file.read_text().splitlines()[0]
    assert first_line == schemas.first_line(file.relative_to(DEMO_REFERENCE).as_posix())
    return file.parent / first_line.partition("$schema=")[2]


def test_the_schemas_beside_the_demo_are_those_of_the_models(tmp_path: Path):
    written = schemas.write_schemas(tmp_path)
    checked_in = sorted((DEMO_REFERENCE / ".schemas").iterdir())
    assert [file.name for file in checked_in] == sorted(file.name for file in written)
    for file in checked_in:
        assert file.read_text() == (tmp_path / ".schemas" / file.name).read_text(), file.name


@pytest.mark.parametrize("name", schemas.schemas())
def test_a_schema_is_one_of_2020_12_and_describes_every_field_without_a_class_name(name: str):
    schema = schemas.schemas()[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert '"title": "' not in json.dumps(schema)
    for model in [schema, *schema.get("$defs", {}).values()]:
        if "if" not in json.dumps(model.get("allOf", "")):
            for field, said in model.get("properties", {}).items():
                assert said.get("description"), field


@pytest.mark.parametrize("file", DEMO_FILES, ids=lambda file: file.name)
def test_every_demo_file_fits_the_schema_it_names_and_no_other_field(file: Path):
    name = named_schema(file).stem
    value = yaml.load(file.read_text(), AsEditorsRead)
    assert faults(name, value) == []
    assert faults(name, value | {"colour": "red"}) != []


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("sites/sparks.yml", "venue_kind", "own"),
        ("organization.yml", "emission_factor_basis", "indirect"),
        ("contracts/franklin-grid.yml", "kind", "grid"),
        ("contracts/franklin-grid.yml", "rounding", "down"),
        ("decisions/juelich-power-cap.yml", "measure", "kwh"),
        ("capacity_plan.yml", "until", "2028-13"),
        ("sites/sparks.yml", "country_code", "Nevada"),
    ],
)
def test_a_file_with_a_value_that_is_none_of_those_there_are_does_not_fit(file, field, value):
    path = DEMO_REFERENCE / file
    whole = yaml.load(path.read_text(), AsEditorsRead)
    assert faults(named_schema(path).stem, whole | {field: value}) != []
