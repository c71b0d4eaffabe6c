"""Answers become reference files that are right, and what cannot be is said."""

from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from pipelines import reference
from pipelines.errors import BookError
from pipelines.onboarding import beginning
from pipelines.onboarding.answers import OrganizationAnswers
from pipelines.reference import schemas
from pipelines.reference.contracts.power import VirtualPpa
from pipelines.reference.sites import hostnames
from tests.reference.test_schemas import AsEditorsRead, faults

ORGANIZATION: dict[str, Any] = {
    "organization_id": "own",
    "reporting_currency": "EUR",
    "time_zone": "Europe/Paris",
    "first_day": date(2026, 1, 1),
}
HALL: dict[str, Any] = {
    "site_id": "hall",
    "country_code": "FR",
    "grid_firm_mw": 1.0,
    "it_capacity_mw": 0.6,
    "design_pue": 1.3,
}
# What YAML takes for something else, or for its own signs.
NAMES = st.sampled_from(
    ["Hall", "NO", "null", "1e3", "0815", "2026-01-01", "a, b: {c}", "# x", "'", '"', "[x]", "Ü ß"]
)


def texts(names: Any) -> Any:
    return st.fixed_dictionaries(names)


@st.composite
def sites(draw: Any, number: int) -> dict[str, Any]:
    """A site with some of everything that may be there, under names of its own."""
    site = f"site-{number}"
    some = lambda value: draw(st.one_of(st.none(), value))  # noqa: E731
    batteries = draw(st.lists(st.just(None), max_size=2))
    prices = some(
        st.sampled_from(
            [
                {"source": "entsoe", "bidding_zone": "DE-LU", "price_market": "day_ahead"},
                {
                    "source": "entsoe",
                    "bidding_zone": "10YFR-RTE------C",
                    "price_market": "day_ahead",
                    "token_variable": "ENTSOE_TOKEN",
                },
                {"source": "prices_csv", "bidding_zone": "NO", "price_market": "real_time"},
            ]
        )
    )
    bases = ["flat", "spot_plus"] if prices else ["flat"]
    plant = {"meter_id": f"PLANT-{number}", "plant_capacity_mw": 2.0, "share_of_plant": 0.5}
    kinds = st.sampled_from(
        [
            {"kind": "ppa_pay_as_produced", **plant},
            {"kind": "vppa_cfd", **plant},
            {"kind": "ppa_baseload", "baseload_mw": 1},
        ]
    )
    venue_kind = draw(st.sampled_from(["own_site", "hpc_allocation"]))
    made: dict[str, Any] = {
        "site_id": site,
        "name": some(NAMES),
        "venue_kind": venue_kind,
        "country_code": draw(st.sampled_from(["NO", "FR"])),
        "time_zone": some(st.sampled_from(["America/Chicago", "Europe/Oslo"])),
        "currency_code": some(st.sampled_from(["USD", "EUR"])),
        "grid_firm_mw": draw(st.sampled_from([0, 0.25, 1e-7, 1e20])),
        "grid_non_firm_mw": draw(st.sampled_from([0, 2])),
        "it_capacity_mw": 0.6,
        "design_pue": 1.3,
        "electrical_limit_mw": some(st.just(0.9)),
        "cooling_limit_mw": some(st.just(0.7)),
        "commitment": some(st.just({"committed_it_mw": 0.5, "utilization_ratio": 0.7})),
        "batteries": [
            {
                "battery_id": f"battery-{number}-{index}",
                "chemistry": draw(NAMES),
                "power_mw": 1,
                "energy_mwh": 4,
                "reserve_ratio": 0.1,
                "charge_efficiency": 0.9,
                "discharge_efficiency": 1,
                "degradation_cost_per_mwh": 0,
                "power_sign": "charge_positive",
                "source": draw(st.sampled_from(["battery_csv", "sunspec"])),
            }
            for index in range(len(batteries))
        ],
        "meters": draw(
            st.lists(
                st.sampled_from(
                    [
                        {"meter_id": f"{number}: a, b", "role": "grid_import", "multiplier": 40},
                        {"meter_id": f"{number}: a, b", "role": "grid_export"},
                        {"meter_id": f"00{number}", "role": "it_load", "flow": "export"},
                        {"meter_id": f"PV-{number}", "role": "onsite_generation"}
                        | {"energy_source": "solar"},
                        *(
                            {"meter_id": f"B-{number}", "role": role}
                            | {"battery_id": f"battery-{number}-0"}
                            for role in ("battery_charge", "battery_discharge")
                            if batteries
                        ),
                    ]
                ),
                unique_by=lambda meter: meter["role"],
            )
        ),
        "readings": some(st.sampled_from(["nem12", "readings_csv"])),
        "nodes": draw(
            st.lists(
                st.sampled_from(
                    [
                        {"hostnames": [f"n{number}-[001-004,7],login{number}"], "gpus_per_node": 8},
                        {"hostnames": [f"ip-10-0-{number}.x", f"0{number}"], "gpus_per_node": 0},
                    ]
                ).map(lambda one: one | {"gpu_model": "H", "host_idle_w": 9, "host_peak_w": 9.5}),
                unique_by=lambda one: one["gpus_per_node"],
            )
        ),
        "telemetry": some(st.sampled_from(["prometheus", "dcgm_scrape"])),
        "prometheus_url": some(st.just("https://prometheus.example.org/x")),
        "scheduler": some(
            st.sampled_from(
                [
                    {"kind": "slurm"},
                    {"kind": "slurm", "login_host": "me@login.example.org"},
                    {
                        "kind": "slurmrestd",
                        "url": "https://slurm.example.org",
                        "user": "NO",
                        "api_version": "v0.0.41",
                    },
                    {"kind": "opencost"},
                ]
            ).map(lambda one: one | {"cluster": f"{number}, a: b"})
        ),
        "prices": prices,
        "grid_contract": some(
            texts(
                {
                    "counterparty": NAMES,
                    "network_per_mwh": st.just(20),
                    "levies_per_mwh": st.just(0),
                    "demand_charge_per_kw": st.sampled_from([0, 1.5]),
                    "contracted_kw": st.sampled_from([None, 900]),
                }
            )
        ),
        "supply": some(
            texts(
                {
                    "counterparty": NAMES,
                    "price_basis": st.sampled_from(bases),
                    "energy_price_per_mwh": st.sampled_from([80, -1.5]),
                    "export_price_per_mwh": st.sampled_from([None, -2]),
                }
            )
        ),
        "ppas": draw(
            st.lists(
                kinds.map(
                    lambda kind: (
                        {
                            "contract_id": f"ppa-{number}",
                            "counterparty": "Plant: 1",
                            "price_per_mwh": 40,
                            "energy_source": "wind",
                            "certificates": "bundled",
                        }
                        | kind
                    )
                ),
                max_size=1 if prices else 0,
            )
        ),
        "allocation": some(
            st.just(
                {
                    "counterparty": "Centre",
                    "node_hours": 4000,
                    "price_per_node_hour": 2.6,
                    "is_shadow_price": True,
                }
            )
        )
        if venue_kind == "hpc_allocation"
        else None,
        "carbon": some(
            st.sampled_from(
                [
                    {"source": "electricity_maps", "carbon_zone": "NO"},
                    {"source": "electricity_maps", "carbon_zone": "FR", "token_variable": "T"},
                    {"source": "watttime", "carbon_zone": "CAISO_NORTH"},
                ]
            )
        ),
        "grid_events": some(
            texts({"source": st.just("outages_csv"), "target": st.one_of(st.none(), NAMES)})
        ),
    }
    return made


@st.composite
def organizations(draw: Any) -> dict[str, Any]:
    places = [draw(sites(number)) for number in range(draw(st.integers(0, 2)))]
    cloud = {
        "site_id": "cloud",
        "country_code": "NO",
        "currency_code": draw(st.sampled_from([None, "USD"])),
        "provider_name": draw(NAMES),
        "region_id": draw(NAMES),
        "gpus_per_instance": {draw(NAMES): 8, "SKU: 2": 1},
    }
    clouds = [cloud] if not places or draw(st.booleans()) else []
    return ORGANIZATION | {
        "name": draw(st.one_of(st.none(), NAMES)),
        "gpu_models": [{"gpu_model": "H", "idle_w": 70, "peak_w": 700.5}],
        "sites": places,
        "clouds": clouds,
        "exchange_rates": {"USD": 0.86},
    }


@settings(max_examples=30, deadline=None)
@given(values=organizations())
def test_whatever_is_answered_the_files_written_are_right_and_fit_their_schemas(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
):
    folder = tmp_path_factory.mktemp("book") / "reference"
    answers = OrganizationAnswers.model_validate(values)

    written = beginning.begin(folder, answers)

    declared = reference.load(folder)
    assert [site.site_id for site in declared.sites] == sorted(
        one.site_id for one in (*answers.sites, *answers.clouds)
    )
    assert [site.name for site in declared.sites if site.terms] == [
        site.name or site.site_id for site in answers.sites
    ]
    assert len(declared.meters) == sum(
        len(site.meters) + sum(ppa.meter_id is not None for ppa in site.ppas)
        for site in answers.sites
    )
    for file in written:
        if file.suffix == ".yml":
            name = file.relative_to(folder).as_posix()
            text = file.read_text()
            assert text.splitlines()[0] == schemas.first_line(name)
            schema_name = name.partition("/")[0].removesuffix(".yml")
            assert faults(schema_name, yaml.load(text, Loader=AsEditorsRead)) == []


def test_a_site_gets_files_for_what_is_there_and_none_for_what_is_not(tmp_path: Path):
    answers = OrganizationAnswers.model_validate(ORGANIZATION | {"sites": [HALL]})
    written = beginning.begin(tmp_path / "reference", answers)
    assert [file.relative_to(tmp_path).as_posix() for file in written] == [
        "reference/organization.yml",
        "reference/sites/hall.yml",
    ]
    assert (tmp_path / "reference/sites/hall.yml").read_text() == (
        "# yaml-language-server: $schema=../.schemas/sites.json\n"
        "site_id: hall\n"
        "name: hall\n"
        "venue_kind: own_site\n"
        "country_code: FR\n"
        "time_zone: Europe/Paris\n"
        "currency_code: EUR\n"
        "# Connection, limits and commitments. When they change, end these with valid_to and add"
        " the next.\n"
        "terms:\n"
        "  - valid_from: 2026-01-01\n"
        "    grid_firm_mw: 1\n"
        "    grid_non_firm_mw: 0\n"
        "    it_capacity_mw: 0.6\n"
        "    design_pue: 1.3\n"
        "    # What a GPU-hour costs besides energy, and the price from which on tolerant work"
        " stops.\n"
        "    # variable_cost_per_gpu_hour: 0.05\n"
        "    # price_stop_per_mwh: 1000\n"
    )


def test_host_names_are_a_list_a_pattern_or_both(tmp_path: Path):
    nodes = {
        "hostnames": ["jwb[0001-0003],login1", "ip-10-0-3-7"],
        "gpus_per_node": 4,
        "gpu_model": "GH200",
        "host_idle_w": 250,
        "host_peak_w": 450,
    }
    models = [{"gpu_model": "GH200", "idle_w": 110, "peak_w": 680}]
    values = ORGANIZATION | {"gpu_models": models, "sites": [HALL | {"nodes": [nodes]}]}
    beginning.begin(tmp_path / "reference", OrganizationAnswers.model_validate(values))
    [site] = reference.load(tmp_path / "reference").sites
    assert list(hostnames(site)) == ["jwb0001", "jwb0002", "jwb0003", "login1", "ip-10-0-3-7"]


def test_a_ppa_is_settled_in_the_sites_market_by_the_meter_of_its_plant(tmp_path: Path):
    ppa = {
        "contract_id": "hall-solar",
        "kind": "vppa_cfd",
        "counterparty": "Plant",
        "price_per_mwh": 40,
        "energy_source": "solar",
        "certificates": "bundled",
        "meter_id": "PLANT-1",
        "plant_capacity_mw": 60,
        "share_of_plant": 0.4,
    }
    prices = {"source": "entsoe", "bidding_zone": "FR", "price_market": "day_ahead"}
    values = ORGANIZATION | {"sites": [HALL | {"prices": prices, "ppas": [ppa]}]}
    beginning.begin(tmp_path / "reference", OrganizationAnswers.model_validate(values))
    declared = reference.load(tmp_path / "reference")
    [contract], [meter] = declared.contracts, declared.meters
    assert isinstance(contract, VirtualPpa)
    assert (contract.settlement_zone, contract.market) == ("FR", "day_ahead")
    assert (meter.meter_id, meter.flow, meter.role) == ("PLANT-1", "export", "ppa_generation")
    assert {factor.energy_source for factor in declared.emission_factors} == {"solar"}


MISTAKES = {
    "no_site": ("sites: []", "found neither sites nor clouds, expected one at least: add it"),
    "an_unknown_field": (
        "sites: [{grid_mw: 1}]",
        "sites.0.grid_mw: found an unknown field",
    ),
    "a_number_in_words": (
        "sites: [{grid_firm_mw: much}]",
        "sites.0.grid_firm_mw: found 'much', expected a number of at least 0: correct it",
    ),
    "a_meter_of_generation_without_its_source": (
        "sites: [{SITE, meters: [{meter_id: a, role: onsite_generation}]}]",
        "sites.0.meters.0: found role onsite_generation without energy_source, expected both: add",
    ),
    "a_source_of_a_meter_that_has_none": (
        "sites: [{SITE, meters: [{meter_id: a, role: it_load, energy_source: solar}]}]",
        "found energy_source with role it_load, expected it with onsite_generation alone: remove",
    ),
    "a_battery_that_is_not_there": (
        "sites: [{SITE, meters: [{meter_id: a, role: battery_charge, battery_id: b}]}]",
        "found battery_id b of meter a, expected one of batteries, of which there is none",
    ),
    "a_gpu_model_that_is_not_there": (
        "sites: [{SITE, nodes: [{hostnames: [a], gpus_per_node: 1, gpu_model: H, host_idle_w: 1,"
        " host_peak_w: 2}]}]",
        "found gpu_model H at site hall, expected one of gpu_models: there is none",
    ),
    "a_host_list_that_does_not_end": (
        "sites: [{SITE, nodes: [{hostnames: ['a[1-'], gpus_per_node: 1, gpu_model: H,"
        " host_idle_w: 1, host_peak_w: 2}]}]",
        "nodes.0.hostnames.0: found host list 'a[1-'",
    ),
    "a_price_at_the_market_without_a_market": (
        "sites: [{SITE, supply: {counterparty: a, price_basis: spot_plus,"
        " energy_price_per_mwh: 0}}]",
        "found supply at the market's price without prices, expected both: add prices",
    ),
    "a_zone_that_entsoe_does_not_know": (
        "sites: [{SITE, prices: {source: entsoe, bidding_zone: Bavaria, price_market: day_ahead}}]",
        "found bidding_zone Bavaria, expected one of AL, AT,",
    ),
    "a_currency_without_its_rate": (
        "sites: [{SITE, currency_code: USD}]",
        "found prices in USD without its rate in exchange_rates, expected what one USD was worth in"
        " EUR on 2026-01-01: add it",
    ),
    "a_site_twice": ("sites: [{SITE}, {SITE}]", "found site_id hall twice, expected it once"),
}


@pytest.mark.parametrize(("sites_text", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_file_of_answers_is_told_with_its_place(
    tmp_path: Path, sites_text: str, message: str
):
    site = "site_id: hall, country_code: FR, grid_firm_mw: 1, it_capacity_mw: 0.6, design_pue: 1.3"
    file = tmp_path / "answers.yml"
    file.write_text(
        "organization_id: own\nreporting_currency: EUR\ntime_zone: Europe/Paris\n"
        f"first_day: 2026-01-01\n{sites_text.replace('SITE', site)}\n"
    )
    with pytest.raises(reference.ReferenceErrors) as raised:
        beginning.read_answers(file)
    assert any(message in cause for cause in raised.value.causes), raised.value.causes


def test_the_answers_have_a_schema_that_they_fit_and_that_explains_every_field(tmp_path: Path):
    values = ORGANIZATION | {"sites": [HALL]}
    beginning.begin(tmp_path / "reference", OrganizationAnswers.model_validate(values))
    file = beginning.write_answers(tmp_path, values)
    first_line = file.read_text().splitlines()[0]
    schema = yaml.safe_load((tmp_path / first_line.partition("$schema=")[2]).read_text())
    as_json = TypeAdapter(Any).dump_python(values, mode="json")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(as_json)
    for model in [schema, *schema["$defs"].values()]:
        assert all(said.get("description") for said in model.get("properties", {}).values())
    assert beginning.read_answers(file) == OrganizationAnswers.model_validate(values)


def test_reference_data_that_are_there_stay_as_they_are_unless_forced(tmp_path: Path):
    answers = OrganizationAnswers.model_validate(ORGANIZATION | {"sites": [HALL]})
    folder = tmp_path / "reference"
    beginning.begin(folder, answers)
    mine = "organization_id: mine\nname: M\ntime_zone: UTC\nreporting_currency: EUR\n"
    (folder / "organization.yml").write_text(mine)

    with pytest.raises(BookError) as raised:
        beginning.begin(folder, answers)
    assert raised.value.causes == [
        f"{folder}: found organization.yml, sites/hall.yml, expected no reference data yet: choose"
        " a folder of your own with --data-dir, or replace files with --force"
    ]
    assert (folder / "organization.yml").read_text() == mine

    beginning.begin(folder, answers, is_forced=True)
    assert "organization_id: own" in (folder / "organization.yml").read_text()


def test_nothing_is_written_where_it_would_not_be_right_with_what_is_there(tmp_path: Path):
    folder = tmp_path / "reference"
    (folder / "sites").mkdir(parents=True)
    other = "site_id: hall\nname: Hall\nvenue_kind: own_site\n"
    (folder / "sites" / "other.yml").write_text(other)
    answers = OrganizationAnswers.model_validate(ORGANIZATION | {"sites": [HALL]})
    with pytest.raises(reference.ReferenceErrors):
        beginning.begin(folder, answers, is_forced=True)
    assert [file.name for file in folder.rglob("*.yml")] == ["other.yml"]


def test_what_lands_where_is_told_once_and_who_brings_it():
    values = ORGANIZATION | {
        "sites": [
            HALL
            | {
                "readings": "nem12",
                "scheduler": {"kind": "opencost", "cluster": "kube"},
                "prices": {
                    "source": "entsoe",
                    "bidding_zone": "FR",
                    "price_market": "day_ahead",
                    "token_variable": "ENTSOE_TOKEN",
                },
            },
            HALL | {"site_id": "barn", "readings": "nem12"},
        ],
    }
    rows = list(beginning.landing(OrganizationAnswers.model_validate(values)))
    assert [(folder, is_pulled) for folder, _, is_pulled in rows] == [
        ("nem12", False),
        ("opencost/kube", False),
        ("entsoe", True),
    ]
