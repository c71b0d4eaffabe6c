"""Every field of every demo file made wrong in every way: what is told, and where."""

import copy
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from pipelines.reference import schemas
from pipelines.reference.documents import Mistakes, Reader
from pipelines.reference.schemas import MODELS
from pipelines.simulator.landing import DEMO_REFERENCE

WORDS_OF_THE_LIBRARY = re.compile(
    r"(?i:input should|valid dictionary|instance of|discriminator|pattern|field required)|"
    r"(?i:extra inputs|validation)|\b(tag|dict|str|None|True|False)\b|\[key\]|\^|\\d|\$"
)
CLASS_NAMES = re.compile(
    r"\b({})\b".format(
        "|".join(
            {name for schema in schemas.schemas().values() for name in schema.get("$defs", ())}
            | {"Organization", "GpuModels", "Meters", "Workloads", "CapacityPlan", "SiteCosts"}
        )
    )
)
WRONG_VALUES: list[Any] = [
    None,
    True,
    "wrong",
    "36",
    "",
    -1,
    10**400,
    1.5,
    1e300,
    float("nan"),
    date(2026, 1, 1),
    [],
    [1, "x"],
    [[]],
    {},
    {"a": 1},
    {"kind": "x"},
    {"kind": []},
    b"x",
    {"a"},
]
TOP_FILES = [
    "organization.yml",
    "gpu_models.yml",
    "meters.yml",
    "workloads.yml",
    "capacity_plan.yml",
    "emission_factors.yml",
    "targets.yml",
    "site_costs.yml",
]
FOLDER_FILES = [
    file.relative_to(DEMO_REFERENCE).as_posix()
    for folder in ("sites", "contracts", "decisions")
    for file in sorted((DEMO_REFERENCE / folder).glob("*.yml"))
]
# Kinds and fields that no demo file has.
MADE = {
    "contracts/made-base.yml": """\
contract_id: made-base
kind: ppa_baseload
name: Made
site_id: x
counterparty: x
time_zone: UTC
currency_code: EUR
settlement_zone: x
market: day_ahead
energy_source: wind
certificates: none
terms:
- valid_from: 2026-01-01
  price_per_mwh: 1
  baseload_mw: 1
  shape_risk: seller
  escalation: {kind: cpi, base_date: 2026-01-01, index: cpi, base_month: 2025-10, lag_months: 3}
""",
    "contracts/made-shape.yml": """\
contract_id: made-shape
kind: ppa_fixed_shape
name: Made
site_id: x
counterparty: x
time_zone: UTC
currency_code: EUR
settlement_zone: x
market: day_ahead
energy_source: wind
certificates: none
terms:
- valid_from: 2026-01-01
  price_per_mwh: 1
  shape:
  - {months: [1, 3], hours: [0, 8], day_kind: workday, mw: 2}
""",
    "contracts/made-collar.yml": """\
contract_id: made-collar
kind: collar
name: Made
site_id: x
counterparty: x
time_zone: UTC
currency_code: EUR
plant_meter_id: x
plant_capacity_mw: 1
share_of_plant: 1
settlement_zone: x
market: day_ahead
energy_source: wind
certificates: none
terms:
- valid_from: 2026-01-01
  floor_price_per_mwh: 1
  cap_price_per_mwh: 2
""",
    "sites/made.yml": """\
site_id: made
name: Made
venue_kind: public_cloud
country_code: DE
time_zone: UTC
currency_code: EUR
cloud: {provider_name: x, region_id: x, gpus_per_instance: {sku: 1}}
data_centre_years:
- {year: 2026, data_centre_type: enterprise, refrigerants: [x]}
""",
}


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        # Entries of a list have one model.
        items = list(enumerate(value))[:1]
    for key, inner in items:
        yield from places(inner, (*place, key))


def within(value: Any, place: tuple[Any, ...]) -> Any:
    for part in place:
        value = value[part]
    return value


def mutations(text: str) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    """What was done, where, and the value of the document after it."""
    whole = yaml.safe_load(text)
    for place in places(whole):
        for wrong in WRONG_VALUES if place else [None, [], "wrong", 1]:
            value = copy.deepcopy(whole)
            if place:
                within(value, place[:-1])[place[-1]] = wrong
            else:
                value = wrong
            yield "wrong", place, value
        inner = within(whole, place)
        if isinstance(inner, dict):
            for name in ("colour", 1, None, True):
                value = copy.deepcopy(whole)
                within(value, place)[name] = 1
                yield "extra", (*place, name), value
        if place and isinstance(place[-1], str):
            value = copy.deepcopy(whole)
            del within(value, place[:-1])[place[-1]]
            yield "missing", place, value


def model_of(name: str) -> TypeAdapter[Any]:
    folder, _, _ = name.rpartition("/")
    return TypeAdapter(MODELS[folder or name.removesuffix(".yml")])


@pytest.mark.parametrize("name", [*TOP_FILES, *FOLDER_FILES, *MADE])
def test_no_mistake_is_told_in_words_of_the_library_and_each_with_its_line(tmp_path, name):
    text = MADE[name] if name in MADE else (DEMO_REFERENCE / name).read_text()
    adapter = model_of(name)
    told = set()
    for done, place, value in mutations(text):
        mistakes = Mistakes()
        reader = Reader(tmp_path, mistakes)
        # Aliases would give two places one line.
        written = yaml.dump(value, Dumper=WithoutAliases, sort_keys=False)
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(written)
        reader._read(file, name, adapter)
        for cause in mistakes.causes:
            told.add(done)
            # What stands in the file may be anything.
            plain = re.sub(r"found '[^']*'|found b?\"[^\"]*\"", "found it", cause)
            assert not WORDS_OF_THE_LIBRARY.search(plain), (done, place, cause)
            assert not CLASS_NAMES.search(plain), (done, place, cause)
            line = re.match(rf"{re.escape(name)}:(\d+): ", cause)
            assert line is not None, cause
            on_line = written.splitlines()[int(line[1]) - 1]
            field = ".".join(map(str, place))
            if done == "wrong" and cause.startswith(f"{line[0]}{field}: "):
                assert f"{place[-1]}:" in on_line or on_line.lstrip().startswith("-"), cause
    assert told == {"wrong", "extra", "missing"}


class WithoutAliases(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "meters.yml",
            "meters:\n- {meter_id: A, site_id: x, role: it_load, acuracy_class: x}\n",
            "meters.yml:2: meters.0.acuracy_class: found an unknown field, expected perhaps"
            " accuracy_class: correct its name or remove it",
        ),
        (
            "meters.yml",
            "meters:\n- {meter_id: A, site_id: x, role: it_load, valid_from: 2026-02-30}\n",
            "meters.yml:2: meters.0.valid_from: found '2026-02-30', expected a date as 2026-04-01:"
            " correct it",
        ),
        (
            "capacity_plan.yml",
            "until: 2028-12\ncommitments: {site_id: x}\n",
            "capacity_plan.yml:2: commitments: found fields with values, expected a list: write it"
            " as in\n    commitments:\n    - site_id: site\n      from_month: 2026-04",
        ),
        (
            "workloads.yml",
            "workloads: [\nrules: []\n",
            "workloads.yml:3: is not YAML: did not find expected ',' or ']': correct indentation,"
            " brackets or quotes here or just before",
        ),
    ],
)
def test_a_mistake_shows_what_to_write(tmp_path: Path, name: str, text: str, told: str):
    (tmp_path / name).write_text(text)
    mistakes = Mistakes()
    Reader(tmp_path, mistakes)._read(tmp_path / name, name, model_of(name))
    assert mistakes.causes == [told]
