"""Which KPI of a site has what it is made of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import reference
from pipelines.connectors import FORMATS
from pipelines.onboarding import beginning, needs
from pipelines.onboarding.answers import OrganizationAnswers
from pipelines.reference import project
from pipelines.simulator.landing import DEMO_REFERENCE
from tests.onboarding.test_answers import HALL, ORGANIZATION

AVAILABILITY, COST, CARBON, INCIDENTS = project.headline_kpis().values()
METERED = {"meters": [{"meter_id": "1", "role": "grid_import"}]}
PRICED = {
    "prices": {"source": "entsoe", "bidding_zone": "FR", "price_market": "day_ahead"},
    "supply": {"counterparty": "a", "price_basis": "spot_plus", "energy_price_per_mwh": 0},
    "grid_contract": {
        "counterparty": "b",
        "network_per_mwh": 1,
        "levies_per_mwh": 1,
        "demand_charge_per_kw": 2,
    },
    "nodes": [
        {"hostnames": ["a"], "gpus_per_node": 8, "gpu_model": "H", "host_idle_w": 1}
        | {"host_peak_w": 2}
    ],
}
PLANNED = {"commitment": {"committed_it_mw": 0.5, "utilization_ratio": 0.7}}
ZONED = {"carbon": {"source": "electricity_maps", "carbon_zone": "FR"}}


def lacks(tmp_path: Path, parts: dict[str, Any], *formats: str) -> dict[str, list[str]]:
    """The inputs without which a KPI is not known, by KPI, of a site declared so."""
    models = [{"gpu_model": "H", "idle_w": 70, "peak_w": 700}]
    values = ORGANIZATION | {"gpu_models": models, "sites": [HALL | parts]}
    beginning.begin(tmp_path / "reference", OrganizationAnswers.model_validate(values))
    declared = reference.load(tmp_path / "reference")
    [kpis] = needs.kpis_of_sites(declared, formats).values()
    return {
        kpi.name: [
            f"{lack.name}: {lack.where}" if lack.is_declared else f"{lack.name} (not declared)"
            for lack in kpi.lacks
            if lack.without is None
        ]
        for kpi in kpis
    }


def test_every_input_of_the_kpis_is_known_here():
    inputs = project.kpi_inputs()
    assert {one["input_id"] for one in inputs} == set(needs.DECLARED)
    assert {one["input_id"] for one in inputs if "needed_where" in one} == set(needs.NEEDED)


def test_a_site_of_which_nothing_is_declared_lacks_all_that_every_kpi_needs(tmp_path: Path):
    meter = "readings of the site's grid meter (not declared)"
    plan = "the MW of compute that the site is committed to (not declared)"
    assert lacks(tmp_path, {}, *FORMATS) == {
        AVAILABILITY: [meter, plan],
        COST: [
            meter,
            "the site's GPUs and their power (not declared)",
            "the tariff that energy is bought at (not declared)",
            "network charges and levies of the grid connection (not declared)",
        ],
        CARBON: [meter, "carbon intensity of the site's grid zone (not declared)"],
        INCIDENTS: [meter, plan],
    }


def test_what_is_declared_lacks_its_files_until_some_have_landed(tmp_path: Path):
    readings = (
        "readings of the site's grid meter: landing/green_button, landing/nem12, landing/mscons,"
        " landing/readings_csv"
    )
    prices = "market prices of the site's bidding zone: landing/entsoe, landing/prices_csv"
    assert lacks(tmp_path, METERED | PRICED | PLANNED | ZONED, "electricity_maps") == {
        AVAILABILITY: [readings],
        COST: [readings, prices],
        CARBON: [readings],
        INCIDENTS: [readings],
    }


def test_a_site_with_everything_is_ready(tmp_path: Path):
    formats = ("nem12", "prices_csv", "watttime")
    found = lacks(tmp_path, METERED | PRICED | PLANNED | ZONED, *formats)
    assert found == {AVAILABILITY: [], COST: [], CARBON: [], INCIDENTS: []}


def test_a_flat_tariff_needs_no_market_and_a_site_without_battery_no_telemetry_of_one(
    tmp_path: Path,
):
    flat = {"counterparty": "a", "price_basis": "flat", "energy_price_per_mwh": 80}
    parts = METERED | {name: PRICED[name] for name in ("grid_contract", "nodes")}
    assert lacks(tmp_path, parts | {"supply": flat}, "mscons")[COST] == []


def test_a_meter_of_the_facility_tells_that_the_connection_was_there(tmp_path: Path):
    meters = {"meters": [{"meter_id": "1", "role": "facility_total"}]}
    found = lacks(tmp_path, meters | PLANNED | ZONED, "nem12", "watttime")
    meter = "readings of the site's grid meter (not declared)"
    assert (found[AVAILABILITY], found[INCIDENTS], found[CARBON]) == ([], [], [meter])


def test_a_plant_of_the_site_needs_factors_of_what_it_generates_from(tmp_path: Path):
    plant = {"meter_id": "2", "role": "onsite_generation", "energy_source": "gas"}
    meters = {"meters": [*METERED["meters"], plant]}
    assert lacks(tmp_path, meters | ZONED, "nem12", "watttime")[CARBON] == []
    (tmp_path / "reference" / "emission_factors.yml").unlink()
    declared = reference.load(tmp_path / "reference")
    [kpis] = needs.kpis_of_sites(declared, ["nem12", "watttime"]).values()
    [lack] = next(kpi for kpi in kpis if kpi.name == CARBON).lacks
    assert (lack.name, lack.is_declared) == ("emission factors of the site's own generation", False)


def test_without_telemetry_and_accounting_a_kpi_is_there_only_less_well(tmp_path: Path):
    assert lacks(tmp_path, METERED | PLANNED, "nem12")[INCIDENTS] == []
    declared = reference.load(tmp_path / "reference")
    [kpis] = needs.kpis_of_sites(declared, ["nem12"]).values()
    assert kpis[-1].is_ready
    assert [(lack.name, lack.is_declared) for lack in kpis[-1].lacks] == [
        ("power and utilization of the GPUs", False),
        ("accounting of the jobs", False),
    ]


@pytest.mark.parametrize(
    ("formats", "missing"),
    [(("focus",), []), ((), ["the cloud's bill: landing/focus"])],
)
def test_a_cloud_has_a_cost_by_its_bill_and_no_other_kpi(
    tmp_path: Path, formats: tuple[str, ...], missing: list[str]
):
    cloud = {
        "site_id": "cloud",
        "country_code": "US",
        "provider_name": "P",
        "region_id": "r",
        "gpus_per_instance": {"SKU": 8},
    }
    answers = OrganizationAnswers.model_validate(ORGANIZATION | {"clouds": [cloud]})
    beginning.begin(tmp_path / "reference", answers)
    [kpis] = needs.kpis_of_sites(reference.load(tmp_path / "reference"), formats).values()
    assert [kpi.is_of_venue for kpi in kpis] == [False, True, False, False]
    assert [f"{lack.name}: {lack.where}" for lack in kpis[1].lacks] == missing


def test_a_folder_without_a_file_brings_nothing(tmp_path: Path):
    assert needs.landed(tmp_path / "landing") == set()
    (tmp_path / "landing" / "nem12" / "2026").mkdir(parents=True)
    (tmp_path / "landing" / "focus" / "2026").mkdir(parents=True)
    (tmp_path / "landing" / "focus" / "2026" / "bill.csv").touch()
    assert needs.landed(tmp_path / "landing") == {"focus"}


def test_the_demo_has_all_that_its_kpis_need():
    kpis = needs.kpis_of_sites(reference.load(DEMO_REFERENCE), FORMATS)
    assert {site for site, of_site in kpis.items() if not all(k.is_ready for k in of_site)} == {
        "cloud-us-south"
    }
    assert [kpi.lacks for of_site in kpis.values() for kpi in of_site if kpi.lacks] == []


def test_rates_of_another_currency_are_declared_or_landed():
    declared = reference.load(DEMO_REFERENCE)
    without = replace(declared, fx_rates=declared.fx_rates.clear())
    told = {
        formats: {
            site
            for site, kpis in needs.kpis_of_sites(without, formats).items()
            for lack in kpis[1].lacks
            if (lack.name, lack.where)
            == ("exchange rates into the reporting currency", "fx_rates.csv, or landing/ecb")
        }
        for formats in (tuple(name for name in FORMATS if name != "ecb"), tuple(FORMATS))
    }
    assert [*told.values()] == [{"cloud-us-south", "franklin", "sparks"}, set()]
    of_declared = needs.kpis_of_sites(declared, ["focus"]).values()
    assert [
        one for kpis in of_declared for kpi in kpis for one in kpi.lacks if "ecb" in one.where
    ] == []
