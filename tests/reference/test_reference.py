"""A small right reference folder, and every kind of mistake made in it one at a time."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines import lake, reference
from pipelines.book import Book
from pipelines.reference.contracts.power import PayAsProducedPpa
from pipelines.simulator.landing import DEMO_REFERENCE

FILES = {
    "organization.yml": """\
organization_id: acme
name: Acme
time_zone: Europe/Berlin
reporting_currency: EUR
emission_factor_basis: direct
zones:
  - {zone: HB_NORTH, kind: bidding, name: ERCOT North Hub}
  - {zone: US-TEX-ERCO, kind: carbon, name: ERCOT}
""",
    "gpu_models.yml": """\
gpu_models:
  - {gpu_model: H100, idle_w: 70, peak_w: 700, embodied_kg: 150, lifetime_hours: 43800}
""",
    "sites/plain.yml": """\
site_id: plain
name: Plain campus
venue_kind: own_site
country_code: US
time_zone: America/Chicago
bidding_zone: HB_NORTH
price_market: real_time
price_sequence: 1
carbon_zone: US-TEX-ERCO
currency_code: USD
clusters: [plain]
grid_event_target: plain-poi
node_groups:
  - name_prefix: pln
    first: 9
    last: 10
    digits: 4
    gpus_per_node: 8
    gpu_model: H100
    host_idle_w: 900
    host_peak_w: 2000
terms:
  - valid_from: 2026-01-01
    valid_to: 2026-11-01
    grid_firm_mw: 50
    grid_non_firm_mw: 10
    electrical_limit_mw: 60
    cooling_limit_mw: 36
    it_capacity_mw: 33
    design_pue: 1.2
    variable_cost_per_gpu_hour: 0.07
    local_committed_mw: 0
    is_local_islandable: false
  - valid_from: 2026-11-01
    grid_firm_mw: 55
    grid_non_firm_mw: 10
    electrical_limit_mw: 60
    cooling_limit_mw: 36
    it_capacity_mw: 33
    design_pue: 1.2
    variable_cost_per_gpu_hour: 0.07
    local_committed_mw: 0
    is_local_islandable: false
    price_stop_per_mwh: 1000
batteries:
  - battery_id: plain-battery
    chemistry: iron-air
    power_mw: 1.5
    energy_mwh: 150
    reserve_ratio: 0.05
    charge_efficiency: 0.75
    discharge_efficiency: 0.7
    degradation_cost_per_mwh: 4
    power_sign: charge_positive
    valid_from: 2026-10-05
""",
    "meters.yml": """\
meters:
  - {meter_id: POI, flow: import, site_id: plain, role: grid_import}
  - {meter_id: BESS, flow: import, site_id: plain, role: battery_charge, battery_id: plain-battery}
  - meter_id: PLANT
    flow: export
    site_id: plain
    role: ppa_generation
    energy_source: solar
    contract_id: plain-ppa
""",
    "contracts/plain-ppa.yml": """\
contract_id: plain-ppa
kind: ppa_pay_as_produced
name: Solar, pay as produced
site_id: plain
counterparty: Solar LLC
plant_meter_id: PLANT
plant_capacity_mw: 60
share_of_plant: 0.5
settlement_zone: HB_NORTH
market: real_time
time_zone: America/Chicago
currency_code: USD
energy_source: solar
certificates: bundled
terms:
  - {valid_from: 2026-01-01, valid_to: 2026-09-16, price_per_mwh: 31.5, negative_price_clause: none}
  - {valid_from: 2026-09-16, price_per_mwh: 29.75, negative_price_clause: no_volume}
""",
    "contracts/plain-grid.yml": """\
contract_id: plain-grid
kind: grid_connection
name: Grid connection
site_id: plain
counterparty: Grid operator
time_zone: America/Chicago
currency_code: USD
tax_ratio: 0.08
terms:
  - valid_from: 2026-01-01
    contracted_kw: 60000
    capacity_charge_per_kw_month: 0.5
    network_per_mwh: 6
    levies_per_mwh: 0.5
    demand_charge_per_kw: 4
    demand_period_minutes: 30
    ratchet_ratio: 0.8
    ratchet_months: 11
""",
    "contracts/plain-supply.yml": """\
contract_id: plain-supply
kind: supply_tariff
name: Supply
site_id: plain
counterparty: Supplier
time_zone: America/Chicago
currency_code: USD
terms:
  - valid_from: 2026-01-01
    valid_to: 2028-01-01
    price_basis: spot_plus
    holiday_calendar: US
    credits_contracted_energy: true
    periods:
      - {months: [1, 12], hours: [0, 17], energy_price_per_mwh: 1.2}
      - {months: [1, 12], hours: [17, 24], day_kind: workday, energy_price_per_mwh: 3}
      - {months: [1, 12], hours: [17, 24], day_kind: weekend_or_holiday, energy_price_per_mwh: 2}
""",
    "contracts/plain-tolling.yml": """\
contract_id: plain-tolling
kind: battery_tolling
name: Iron-air battery, tolled
site_id: plain
counterparty: Storage LLC
time_zone: America/Chicago
currency_code: USD
battery_id: plain-battery
terms:
  - valid_from: 2026-10-05
    tolled_mw: 1.5
    fixed_fee_per_mw_month: 2900
    guaranteed_availability_ratio: 0.97
    damages_per_mwh_unavailable: 45
    guaranteed_round_trip_ratio: 0.5
    round_trip_damages_per_mwh: 60
    throughput_limit_mwh_per_year: 4000
    excess_throughput_per_mwh: 6.5
""",
    "sites/cloud.yml": """\
site_id: cloud
name: Cloud region
venue_kind: public_cloud
country_code: US
time_zone: UTC
currency_code: USD
cloud:
  provider_name: Example Cloud
  region_id: us-south1
  gpus_per_instance: {SKU-1: 8}
""",
    "contracts/cloud-commitment.yml": """\
contract_id: cloud-commitment
kind: cloud_commitment
name: Committed machines
site_id: cloud
counterparty: Example Cloud
time_zone: UTC
currency_code: USD
commitment_discount_id: cud-1
sku: SKU-1
terms:
  - {valid_from: 2026-01-01, gpu_count: 16, hourly_price: 95, kw_per_gpu: 1.3}
""",
    "workloads.yml": """\
workloads:
  - workload_id: training
    name: Training
    criticality: tolerant
    max_deferral_hours: 24
    allowed_venues: [own_site]
    value_per_lost_gpu_hour: 3.6
  - workload_id: unassigned
    name: Matched by no rule
    criticality: tolerant
    max_deferral_hours: 0
    allowed_venues: []
    value_per_lost_gpu_hour: 2
rules:
  - {cluster: plain, partition: train, workload_id: training}
""",
    "capacity_plan.yml": """\
until: 2026-07
commitments:
  - {site_id: plain, from_month: 2026-04, committed_it_mw: 26, utilization_ratio: 0.7}
  - {site_id: plain, from_month: 2026-06, committed_it_mw: 28, planned_it_mw: 30,
     utilization_ratio: 0.8}
""",
    "forward_prices.csv": """\
zone,month,price_per_mwh,currency_code
HB_NORTH,2026-06,41.5,USD
HB_NORTH,2026-07,48,USD
""",
    "emission_factors.yml": """\
factors:
  - factor_id: texas
    kind: residual_mix
    zone: US-TEX-ERCO
    basis: direct
    value_g_per_kwh: 430
    source: made up
    version: "2025"
    is_marginal: false
    valid_from: 2026-01-01
""",
    "targets.yml": """\
targets:
  - {kpi_id: effective_availability_ratio, target: 0.99, direction: at_least}
""",
    "site_costs.yml": """\
costs:
  - cost_id: servers
    site_id: plain
    kind: depreciation
    name: Servers
    amount: 600000
    currency_code: USD
    valid_from: 2026-01-01
    valid_to: 2031-01-01
  - cost_id: staff
    site_id: plain
    kind: operations
    name: Staff
    amount: 20000
    currency_code: USD
    valid_from: 2026-01-01
""",
    "decisions/cap.yml": """\
decision_id: cap
title: Cap the GPUs
kind: grid_risk
decided_on: 2026-03-03
decided_by: infra
week: 2026-W10
effective_from: 2026-03-09
review_week: 2026-W14
site_id: plain
measure: energy_kwh_per_gpu_hour
expected_change: -0.05
""",
    "fx_rates.csv": """\
rate_date,currency_code,rate_to_reporting
2026-01-01,EUR,1
2026-01-01,USD,0.86
2026-01-02,EUR,1
2026-01-02,USD,0.87
""",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / "reference" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "reference"


def replace_once(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def causes(folder: Path) -> list[str]:
    with pytest.raises(reference.ReferenceErrors) as raised:
        reference.load(folder)
    return raised.value.causes


MISTAKES = {
    "a_field_that_no_model_knows": (
        "meters.yml",
        "role: grid_import}",
        "role: grid_import, colour: red}",
        "meters.yml:2: meters.0.colour: found an unknown field: remove it or correct its name",
    ),
    "a_field_left_out": (
        "sites/plain.yml",
        "country_code: US\n",
        "",
        "sites/plain.yml:1: country_code: not found, expected a country in two capital "
        "letters, as DE: add the field",
    ),
    "a_number_in_quotes": (
        "sites/plain.yml",
        "cooling_limit_mw: 36\n    it_capacity_mw: 33\n    design_pue: 1.2\n"
        "    variable_cost_per_gpu_hour: 0.07\n    local_committed_mw: 0\n"
        "    is_local_islandable: false\n  - ",
        'cooling_limit_mw: "36"\n    it_capacity_mw: 33\n    design_pue: 1.2\n'
        "    variable_cost_per_gpu_hour: 0.07\n    local_committed_mw: 0\n"
        "    is_local_islandable: false\n  - ",
        "sites/plain.yml:28: terms.0.cooling_limit_mw: found '36', expected a number of at "
        "least 0: remove the quotes",
    ),
    "a_field_given_twice": (
        "sites/plain.yml",
        "price_sequence: 1\n",
        "price_sequence: 1\nprice_sequence: 2\n",
        "sites/plain.yml:9: price_sequence: found twice, expected once: remove one of the two",
    ),
    "an_unknown_time_zone": (
        "sites/plain.yml",
        "time_zone: America/Chicago",
        "time_zone: America/Chicagoo",
        "sites/plain.yml:5: time_zone: found 'America/Chicagoo', expected an IANA time zone "
        "such as Europe/Berlin: correct the name",
    ),
    "an_unknown_bidding_zone": (
        "sites/plain.yml",
        "bidding_zone: HB_NORTH",
        "bidding_zone: HB_SOUTH",
        "sites/plain.yml:6: bidding_zone: found 'HB_SOUTH', expected a name declared in zones of"
        " organization.yml: perhaps 'HB_NORTH'",
    ),
    "a_bidding_zone_as_carbon_zone": (
        "sites/plain.yml",
        "carbon_zone: US-TEX-ERCO",
        "carbon_zone: HB_NORTH",
        "sites/plain.yml:9: carbon_zone: found 'HB_NORTH', expected a name declared in zones of"
        " organization.yml",
    ),
    "rounding_that_hides_nothing": (
        "organization.yml",
        "reporting_currency: EUR",
        "reporting_currency: EUR\nconfidential_rounding_ratio: 1",
        "organization.yml:5: confidential_rounding_ratio: found 1, expected a number from 1.1"
        " to 10: correct it",
    ),
    "a_settlement_zone_that_nothing_declares": (
        "contracts/plain-ppa.yml",
        "settlement_zone: HB_NORTH",
        "settlement_zone: HB_WEST",
        "contracts/plain-ppa.yml:9: settlement_zone: found 'HB_WEST', expected a name declared in"
        " zones of organization.yml",
    ),
    "terms_that_overlap": (
        "sites/plain.yml",
        "valid_to: 2026-11-01",
        "valid_to: 2026-11-02",
        "sites/plain.yml:34: terms.1.valid_from: found 2026-11-01, expected no overlap with the"
        " terms from 2026-01-01 to 2026-11-02: end those first",
    ),
    "contract_terms_that_overlap": (
        "contracts/plain-ppa.yml",
        "valid_to: 2026-09-16, ",
        "",
        "contracts/plain-ppa.yml:17: terms.1.valid_from: found 2026-09-16, expected no overlap with"
        " the terms from 2026-01-01 to open: end those first",
    ),
    "terms_that_end_before_they_begin": (
        "sites/plain.yml",
        "valid_to: 2026-11-01",
        "valid_to: 2025-11-01",
        "sites/plain.yml:23: terms.0: expected valid_to after valid_from: correct one of the two",
    ),
    "an_efficiency_above_1": (
        "sites/plain.yml",
        "charge_efficiency: 0.75",
        "charge_efficiency: 1.02",
        "sites/plain.yml:51: batteries.0.charge_efficiency: found 1.02, expected a number "
        "above 0, at most 1: correct it",
    ),
    "an_unknown_gpu_model": (
        "sites/plain.yml",
        "gpu_model: H100",
        "gpu_model: H200",
        "sites/plain.yml:19: node_groups.0.gpu_model: found 'H200', expected a name declared in"
        " gpu_models.yml: perhaps 'H100'",
    ),
    "an_unknown_meter_role": (
        "meters.yml",
        "role: grid_import",
        "role: grid",
        "meters.yml:2: meters.0.role: found 'grid', expected grid_import, grid_export, "
        "onsite_generation, battery_charge, battery_discharge, it_load, cooling_load, "
        "facility_total or ppa_generation: correct it",
    ),
    "a_meter_at_an_unknown_site": (
        "meters.yml",
        "site_id: plain, role: grid_import",
        "site_id: plane, role: grid_import",
        "meters.yml:2: meters.0.site_id: found 'plane', expected a name declared in"
        " sites/: perhaps 'plain'",
    ),
    "a_meter_of_an_unknown_battery": (
        "meters.yml",
        "battery_id: plain-battery",
        "battery_id: other",
        "meters.yml:3: meters.1.battery_id: found 'other', expected a name declared in batteries"
        " of site plain",
    ),
    "a_battery_meter_without_a_battery": (
        "meters.yml",
        ", battery_id: plain-battery",
        "",
        "meters.yml:3: meters.1.battery_id: not found, expected it of a battery_charge meter: add"
        " the field",
    ),
    "a_meter_of_an_unknown_contract": (
        "meters.yml",
        "contract_id: plain-ppa",
        "contract_id: other",
        "meters.yml:9: meters.2.contract_id: found 'other', expected a name declared in contracts/",
    ),
    "generation_from_an_unnamed_source": (
        "meters.yml",
        "    energy_source: solar\n",
        "",
        "meters.yml:4: meters.2.energy_source: not found, expected it of a ppa_generation meter:"
        " add the field",
    ),
    "a_meter_and_flow_declared_twice": (
        "meters.yml",
        "  - meter_id: PLANT",
        "  - {meter_id: POI, flow: import, site_id: plain, role: it_load}\n  - meter_id: PLANT",
        "meters.yml:4: meters.2: found meter_id 'POI', flow 'import' declared twice for 1970-01-01,"
        " expected once: end the earlier with valid_to",
    ),
    "a_host_name_in_two_groups": (
        "sites/plain.yml",
        "terms:\n",
        "  - {name_prefix: pln, first: 10, last: 11, digits: 4, gpus_per_node: 8, gpu_model: H100,"
        " host_idle_w: 900, host_peak_w: 2000}\nterms:\n",
        "host name 'pln0010' is declared twice in node_groups: leave it to one",
    ),
    "a_group_of_nodes_without_their_last_number": (
        "sites/plain.yml",
        "    last: 10\n",
        "",
        "sites/plain.yml:14: node_groups.0: expected either name_prefix, first, last and digits, or"
        " hostnames: add what is missing or remove one of the two",
    ),
    "a_group_of_nodes_named_in_two_ways": (
        "sites/plain.yml",
        "    last: 10\n",
        "    last: 10\n    hostnames: [worker-9k2xq]\n",
        "sites/plain.yml:14: node_groups.0: expected either name_prefix, first, last and digits, or"
        " hostnames: add what is missing or remove one of the two",
    ),
    "a_host_list_that_does_not_end": (
        "sites/plain.yml",
        "terms:\n",
        '  - {hostnames: ["gpu[01-16"], gpus_per_node: 8, gpu_model: H100, host_idle_w: 900,'
        " host_peak_w: 2000}\nterms:\n",
        "sites/plain.yml:22: node_groups.1.hostnames.0: found host list 'gpu[01-16'"
        " (unbalanced brackets), expected one such as gpu[01-16]: correct it",
    ),
    "a_host_name_with_a_space": (
        "sites/plain.yml",
        "terms:\n",
        "  - {hostnames: [worker 1], gpus_per_node: 8, gpu_model: H100, host_idle_w: 900,"
        " host_peak_w: 2000}\nterms:\n",
        "sites/plain.yml:22: node_groups.1.hostnames.0: found host name 'worker 1', expected"
        " letters, digits, '-', '.' and '_', or a host list such as gpu[01-16]: correct the name",
    ),
    "what_making_a_gpu_emitted_without_the_hours_to_spread_it_over": (
        "gpu_models.yml",
        ", lifetime_hours: 43800",
        "",
        "gpu_models.yml:2: gpu_models.0: expected embodied_kg and lifetime_hours, or neither: add"
        " the other of the two",
    ),
    "a_cluster_at_two_sites": (
        "sites/plain.yml",
        "clusters: [plain]",
        "clusters: [plain, plain]",
        "cluster 'plain' is declared twice, expected once: rename one",
    ),
    "pods_of_two_clusters_at_a_site": (
        "sites/plain.yml",
        "clusters: [plain]",
        "clusters: [plain, other]\nholders: telemetry",
        "sites/plain.yml:1: found holders: telemetry beside 2 clusters, expected one, whose pods"
        " the samples name: declare it under clusters",
    ),
    "a_share_above_1": (
        "contracts/plain-ppa.yml",
        "share_of_plant: 0.5",
        "share_of_plant: 50",
        "contracts/plain-ppa.yml:8: share_of_plant: found 50, expected a number from 0 to 1: "
        "correct it",
    ),
    "a_contract_of_an_unknown_kind": (
        "contracts/plain-ppa.yml",
        "kind: ppa_pay_as_produced",
        "kind: ppa",
        "contracts/plain-ppa.yml:2: kind: found 'ppa', expected battery_tolling, "
        "cloud_commitment, collar, grid_connection, hpc_allocation, ppa_baseload, "
        "ppa_fixed_shape, ppa_pay_as_produced, supply_tariff or vppa_cfd: correct it",
    ),
    "a_contract_without_a_price": (
        "contracts/plain-ppa.yml",
        "price_per_mwh: 29.75, ",
        "",
        "contracts/plain-ppa.yml:17: terms.1.price_per_mwh: not found, expected a number: add"
        " the field",
    ),
    "a_contract_of_an_unknown_plant_meter": (
        "contracts/plain-ppa.yml",
        "plant_meter_id: PLANT",
        "plant_meter_id: POI",
        "contracts/plain-ppa.yml:6: plant_meter_id: found 'POI', expected a meter with role"
        " ppa_generation in meters.yml",
    ),
    "a_contract_for_an_unknown_site": (
        "contracts/plain-ppa.yml",
        "site_id: plain\n",
        "site_id: plane\n",
        "contracts/plain-ppa.yml:4: site_id: found 'plane', expected a name declared in"
        " sites/: perhaps 'plain'",
    ),
    "an_hour_without_a_price": (
        "contracts/plain-supply.yml",
        "hours: [17, 24], day_kind: workday",
        "hours: [18, 24], day_kind: workday",
        "contracts/plain-supply.yml:14: terms.0.periods: found 0 prices for month 1, hour 17,"
        " workday,"
        " expected one for each: correct months, hours and day_kind",
    ),
    "an_hour_with_two_prices": (
        "contracts/plain-supply.yml",
        "hours: [17, 24], day_kind: workday",
        "hours: [16, 24], day_kind: workday",
        "contracts/plain-supply.yml:14: terms.0.periods: found 2 prices for month 1, hour 16,"
        " workday,"
        " expected one for each: correct months, hours and day_kind",
    ),
    "a_flat_price_with_windows": (
        "contracts/plain-supply.yml",
        "price_basis: spot_plus",
        "price_basis: flat",
        "contracts/plain-supply.yml:9: terms.0: found 3 periods of a flat price, expected one:"
        " keep one"
        " or make price_basis time_of_use",
    ),
    "kinds_of_day_without_a_calendar": (
        "contracts/plain-supply.yml",
        "    holiday_calendar: US\n",
        "",
        "contracts/plain-supply.yml:9: terms.0: expected holiday_calendar, as US or DE-NW, where"
        " a period"
        " is for workdays or weekend_or_holiday: add it",
    ),
    "an_unknown_calendar": (
        "contracts/plain-supply.yml",
        "holiday_calendar: US",
        "holiday_calendar: US-ZZ",
        "contracts/plain-supply.yml:12: terms.0.holiday_calendar: found 'US-ZZ', expected a "
        "country, or country and subdivision, as US or DE-NW: correct the name",
    ),
    "a_tariff_in_a_currency_without_rates": (
        "contracts/plain-supply.yml",
        "currency_code: USD",
        "currency_code: CHF",
        "contracts/plain-supply.yml:7: currency_code: found 'CHF', expected a name declared in"
        " fx_rates.csv",
    ),
    "a_ratchet_without_its_months": (
        "contracts/plain-grid.yml",
        "    ratchet_months: 11\n",
        "",
        "contracts/plain-grid.yml:10: terms.0: expected ratchet_ratio and ratchet_months, or"
        " neither:"
        " add the other of the two",
    ),
    "a_demand_period_of_another_length": (
        "contracts/plain-grid.yml",
        "demand_period_minutes: 30",
        "demand_period_minutes: 20",
        "contracts/plain-grid.yml:16: terms.0.demand_period_minutes: found 20, expected 15, "
        "30 or 60: correct it",
    ),
    "a_tax_that_is_not_owed": (
        "contracts/plain-grid.yml",
        "tax_ratio: 0.08",
        "tax_ratio: 0.08\ntax_treatment: exempt",
        "contracts/plain-grid.yml:1: found tax_ratio 0.08 with tax_treatment exempt, expected 0"
        " unless"
        " it is standard: correct one of the two",
    ),
    "a_guarantee_without_damages": (
        "contracts/plain-tolling.yml",
        "    round_trip_damages_per_mwh: 60\n",
        "",
        "contracts/plain-tolling.yml:10: terms.0: expected guaranteed_round_trip_ratio and"
        " round_trip_damages_per_mwh, or neither: add the other of the two",
    ),
    "a_limit_without_a_price": (
        "contracts/plain-tolling.yml",
        "    excess_throughput_per_mwh: 6.5\n",
        "",
        "contracts/plain-tolling.yml:10: terms.0: expected throughput_limit_mwh_per_year and"
        " excess_throughput_per_mwh, or neither: add the other of the two",
    ),
    "a_battery_of_another_site": (
        "contracts/plain-tolling.yml",
        "battery_id: plain-battery",
        "battery_id: other-battery",
        "contracts/plain-tolling.yml:8: battery_id: found 'other-battery', expected a name"
        " declared in"
        " batteries of site plain: perhaps 'plain-battery'",
    ),
    "more_power_than_the_battery_has": (
        "contracts/plain-tolling.yml",
        "tolled_mw: 1.5",
        "tolled_mw: 2",
        "contracts/plain-tolling.yml:11: terms.0.tolled_mw: found 2, expected at most the"
        " power_mw 1.5 of"
        " battery plain-battery",
    ),
    "a_machine_the_cloud_venue_does_not_name": (
        "contracts/cloud-commitment.yml",
        "sku: SKU-1",
        "sku: SKU-2",
        "contracts/cloud-commitment.yml:9: sku: found 'SKU-2', expected a name declared in"
        " gpus_per_instance of site cloud: perhaps 'SKU-1'",
    ),
    "spot_prices_of_no_market": (
        "sites/plain.yml",
        "price_market: real_time\n",
        "",
        "contracts/plain-supply.yml:11: terms.0.price_basis: found 'spot_plus', expected"
        " price_market in"
        " the file of site plain",
    ),
    "a_rule_to_an_unknown_workload": (
        "workloads.yml",
        "workload_id: training}",
        "workload_id: finetuning}",
        "workloads.yml:15: rules.0.workload_id: found 'finetuning', expected a name declared in"
        " workloads",
    ),
    "a_latency_to_an_unknown_site": (
        "workloads.yml",
        "    value_per_lost_gpu_hour: 3.6",
        "    latency_ms: {plane: 12}\n    value_per_lost_gpu_hour: 3.6",
        "workloads.yml:7: workloads.0.latency_ms.plane: found 'plane', expected a name declared in"
        " sites/: perhaps 'plain'",
    ),
    "a_country_that_is_no_code": (
        "workloads.yml",
        "    value_per_lost_gpu_hour: 3.6",
        "    allowed_countries: [Germany]\n    value_per_lost_gpu_hour: 3.6",
        "workloads.yml:7: workloads.0.allowed_countries.0: found 'Germany', expected a "
        "country in two capital letters, as DE: correct it",
    ),
    "commitments_without_an_end": (
        "capacity_plan.yml",
        "until:",
        "# until:",
        "capacity_plan.yml:2: found commitments without until, expected the month before which the"
        " last one ends: add until, as until: 2029-01",
    ),
    "a_commitment_at_an_unknown_site": (
        "capacity_plan.yml",
        "{site_id: plain, from_month: 2026-06",
        "{site_id: plane, from_month: 2026-06",
        "capacity_plan.yml:4: commitments.1.site_id: found 'plane', expected a name declared in"
        " sites/: perhaps 'plain'",
    ),
    "a_commitment_in_a_cloud": (
        "capacity_plan.yml",
        "{site_id: plain, from_month: 2026-06",
        "{site_id: cloud, from_month: 2026-06",
        "capacity_plan.yml:4: commitments.1.site_id: found 'cloud', expected a site with a"
        " connection: what is committed to in a cloud is a contract of kind cloud_commitment",
    ),
    "less_planned_than_committed": (
        "capacity_plan.yml",
        "planned_it_mw: 30",
        "planned_it_mw: 20",
        "capacity_plan.yml:4: commitments.1: found planned_it_mw 20.0 below committed_it_mw"
        " 28.0, expected at least as much, for what is committed is planned too: correct one of"
        " the two",
    ),
    "a_commitment_without_utilization": (
        "capacity_plan.yml",
        ", utilization_ratio: 0.7",
        "",
        "capacity_plan.yml:3: commitments.0.utilization_ratio: not found, expected a number "
        "above 0, at most 1: add the field",
    ),
    "more_utilization_than_all": (
        "capacity_plan.yml",
        "utilization_ratio: 0.7",
        "utilization_ratio: 70.0",
        "capacity_plan.yml:3: commitments.0.utilization_ratio: found 70.0, expected a number "
        "above 0, at most 1: correct it",
    ),
    "a_forward_price_of_an_unknown_zone": (
        "forward_prices.csv",
        "HB_NORTH,2026-07",
        "HB_NORD,2026-07",
        "forward_prices.csv:3: zone: found 'HB_NORD', expected a name declared in zones of"
        " organization.yml: perhaps 'HB_NORTH'",
    ),
    "a_forward_price_in_an_unknown_currency": (
        "forward_prices.csv",
        "48,USD",
        "48,GBP",
        "forward_prices.csv:3: currency_code: found 'GBP', expected a name declared in"
        " fx_rates.csv",
    ),
    "a_forward_month_priced_twice": (
        "forward_prices.csv",
        "HB_NORTH,2026-07,48",
        "HB_NORTH,2026-06,48",
        "forward_prices.csv:3: found 'HB_NORTH,2026-06,48,USD', expected a zone, a month as 2026-04"
        " not given before for it, a price above 0 and its currency",
    ),
    "a_forward_month_that_is_none": (
        "forward_prices.csv",
        "HB_NORTH,2026-07",
        "HB_NORTH,July",
        "forward_prices.csv:3: found 'HB_NORTH,July,48,USD', expected a zone, a month as 2026-04"
        " not given before for it, a price above 0 and its currency",
    ),
    "a_forward_price_without_currency": (
        "forward_prices.csv",
        "48,USD",
        "48,",
        "forward_prices.csv:3: found 'HB_NORTH,2026-07,48', expected a zone, a month as 2026-04"
        " not given before for it, a price above 0 and its currency",
    ),
    "forward_prices_with_other_columns": (
        "forward_prices.csv",
        "price_per_mwh,",
        "price,",
        "forward_prices.csv:1: found columns zone, month, price, currency_code, expected zone,"
        " month, price_per_mwh, currency_code",
    ),
    "a_month_that_is_none": (
        "capacity_plan.yml",
        "from_month: 2026-06",
        "from_month: 2026-13",
        "capacity_plan.yml:4: commitments.1.from_month: found '2026-13', expected a month as "
        "2026-04",
    ),
    "a_factor_with_two_values": (
        "emission_factors.yml",
        "factors:\n",
        "factors:\n  - {factor_id: texas, kind: residual_mix, zone: US-TEX-ERCO, basis: direct,"
        " value_g_per_kwh: 440, source: made up, version: '2025', is_marginal: false,"
        " valid_from: 2026-07-01}\n",
        "emission_factors.yml:2: factors.0: found factor_id 'texas', basis 'direct' declared twice"
        " for 2026-07-01, expected once: end the earlier with valid_to",
    ),
    "a_commitment_given_twice": (
        "capacity_plan.yml",
        "from_month: 2026-06",
        "from_month: 2026-04",
        "capacity_plan.yml:4: commitments.1: found ('plain', '2026-04') twice, expected it once",
    ),
    "a_residual_mix_of_no_zone": (
        "emission_factors.yml",
        "    zone: US-TEX-ERCO\n",
        "",
        "emission_factors.yml:2: factors.0: a residual_mix needs zone",
    ),
    "a_target_for_an_unknown_site": (
        "targets.yml",
        "{kpi_id:",
        "{site_id: plane, kpi_id:",
        "targets.yml:2: targets.0.site_id: found 'plane', expected a name declared in"
        " sites/: perhaps 'plain'",
    ),
    "a_cost_of_an_unknown_site": (
        "site_costs.yml",
        "site_id: plain\n    kind: operations",
        "site_id: plane\n    kind: operations",
        "site_costs.yml:11: costs.1.site_id: found 'plane', expected a name declared in"
        " sites/: perhaps 'plain'",
    ),
    "a_cost_in_a_currency_without_rates": (
        "site_costs.yml",
        "    currency_code: USD\n    valid_from: 2026-01-01\n    valid_to",
        "    currency_code: CHF\n    valid_from: 2026-01-01\n    valid_to",
        "site_costs.yml:7: costs.0.currency_code: found 'CHF', expected a name declared in"
        " fx_rates.csv",
    ),
    "a_cost_given_twice": (
        "site_costs.yml",
        "cost_id: staff",
        "cost_id: servers",
        "site_costs.yml:10: costs.1: found 'servers' twice, expected it once",
    ),
    "a_depreciation_without_end": (
        "site_costs.yml",
        "    valid_to: 2031-01-01\n",
        "",
        "site_costs.yml:2: costs.0: found no valid_to, expected the date up to which it is written"
        " off: add it",
    ),
    "days_without_a_rate_that_still_holds": (
        "fx_rates.csv",
        "2026-01-02,USD,0.87\n",
        "2026-01-09,USD,0.87\n",
        "fx_rates.csv: no USD rate for 2026-01-07 (2 days missing), expected one that is at most 5"
        " days old (fx_rate_holds_days of organization.yml): add it",
    ),
    "a_rate_of_0": (
        "fx_rates.csv",
        "USD,0.87",
        "USD,0",
        "fx_rates.csv:5: found '2026-01-02,USD,0', expected a date, a currency not given before"
        " for it, and a rate above 0",
    ),
    "a_rate_given_twice": (
        "fx_rates.csv",
        "2026-01-02,USD",
        "2026-01-01,USD",
        "fx_rates.csv:5: found '2026-01-01,USD,0.87', expected a date, a currency not given before"
        " for it, and a rate above 0",
    ),
    "a_target_for_a_kpi_that_nothing_measures": (
        "targets.yml",
        "kpi_id: effective_availability_ratio",
        "kpi_id: effective_availabilty_ratio",
        "targets.yml:2: targets.0.kpi_id: found 'effective_availabilty_ratio', expected a name"
        " declared in kpis of dbt_project.yml: perhaps 'effective_availability_ratio'",
    ),
    "a_meter_of_an_unknown_source": (
        "meters.yml",
        "energy_source: solar",
        "energy_source: sloar",
        "meters.yml:8: meters.2.energy_source: found 'sloar', expected solar, wind, hydro, "
        "geothermal, biomass, nuclear, coal, gas, oil or unknown: perhaps solar",
    ),
    "a_contract_on_an_unknown_source": (
        "contracts/plain-ppa.yml",
        "energy_source: solar",
        "energy_source: wind_onshore",
        "contracts/plain-ppa.yml:13: energy_source: found 'wind_onshore', expected solar, "
        "wind, hydro, geothermal, biomass, nuclear, coal, gas, oil or unknown: correct it",
    ),
    "a_decision_after_a_rule_that_is_none": (
        "decisions/cap.yml",
        "site_id: plain\n",
        "site_id: plain\nagenda_proposal_id: demand_peaks:plain\n",
        "decisions/cap.yml:10: agenda_proposal_id: found 'demand_peaks', expected a name declared"
        " in agenda_rules of dbt_project.yml, a colon and its subject: perhaps 'demand_peak'",
    ),
    "a_floor_of_a_rule_that_is_none": (
        "organization.yml",
        "reporting_currency: EUR\n",
        "reporting_currency: EUR\nagenda:\n  floors:\n    demand_peaks: {least_weekly_worth: 5}\n",
        "organization.yml:7: agenda.floors.demand_peaks: found 'demand_peaks', expected a name"
        " declared in agenda_rules of dbt_project.yml: perhaps 'demand_peak'",
    ),
    "a_carbon_price_without_its_source": (
        "organization.yml",
        "reporting_currency: EUR\n",
        "reporting_currency: EUR\nagenda:\n  carbon_price_per_tonne: 80\n",
        "organization.yml:5: agenda: found carbon_price_per_tonne 80.0 without carbon_price_source,"
        " expected both: say where the price comes from",
    ),
    "a_workload_in_a_country_without_a_site": (
        "workloads.yml",
        "allowed_venues: [own_site]",
        "allowed_venues: [own_site]\n    allowed_countries: [US, UK]",
        "workloads.yml:7: workloads.0.allowed_countries.1: found 'UK', expected a name declared in"
        " country_code of sites/",
    ),
    "a_rule_for_an_unknown_cluster": (
        "workloads.yml",
        "rules:\n",
        "rules:\n  - {cluster: plane, workload_id: unassigned}\n",
        "workloads.yml:15: rules.0.cluster: found 'plane', expected a name declared in clusters of"
        " sites/: perhaps 'plain'",
    ),
    "a_decision_about_an_unknown_site": (
        "decisions/cap.yml",
        "site_id: plain",
        "site_id: plane",
        "decisions/cap.yml:9: site_id: found 'plane', expected a name declared in"
        " sites/: perhaps 'plain'",
    ),
    "a_decision_about_an_unknown_workload": (
        "decisions/cap.yml",
        "site_id: plain",
        "site_id: plain\nworkload_id: trainings",
        "decisions/cap.yml:10: workload_id: found 'trainings', expected a name declared in"
        " workloads.yml: perhaps 'training'",
    ),
    "a_decision_with_no_such_week": (
        "decisions/cap.yml",
        "review_week: 2026-W14",
        "review_week: 2026-W54",
        "decisions/cap.yml:8: review_week: found '2026-W54', expected an ISO week as 2026-W40",
    ),
    "a_decision_reviewed_before_it_takes_effect": (
        "decisions/cap.yml",
        "review_week: 2026-W14",
        "review_week: 2026-W09",
        "decisions/cap.yml:1: found review_week before effective_from, expected a week that can"
        " show the effect: choose a later one",
    ),
    "a_decision_about_nothing": (
        "decisions/cap.yml",
        "site_id: plain\n",
        "",
        "decisions/cap.yml:1: found neither site_id nor workload_id, expected at least one: add it",
    ),
    "a_power_limit_of_no_site": (
        "decisions/cap.yml",
        "site_id: plain\n",
        "workload_id: training\npower_limit_ratio: 0.9\n",
        "decisions/cap.yml:1: found power_limit_ratio alone, expected site_id beside it: say whose"
        " GPUs",
    ),
    "a_decision_that_is_to_change_nothing": (
        "decisions/cap.yml",
        "expected_change: -0.05",
        "expected_change: 0.0",
        "decisions/cap.yml:1: found expected_change 0, expected how much the measure should change",
    ),
    "another_header": (
        "fx_rates.csv",
        "rate_date,",
        "day,",
        "fx_rates.csv:1: found columns day, currency_code, rate_to_reporting, expected rate_date,"
        " currency_code, rate_to_reporting",
    ),
}


@pytest.mark.parametrize(("name", "old", "new", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_file_line_field_and_fix(
    folder: Path, name: str, old: str, new: str, message: str
):
    replace_once(folder / name, old, new)

    assert causes(folder) == [message]


def test_all_mistakes_of_all_files_are_told_at_once(folder: Path):
    replace_once(folder / "meters.yml", "role: grid_import", "role: grid")
    replace_once(folder / "sites/plain.yml", "reserve_ratio: 0.05", "reserve_ratio: -1")
    (folder / "organization.yml").unlink()
    (folder / "workloads.yml").write_text("workloads: [\n")

    told = causes(folder)

    assert [cause.split(": ")[0] for cause in told] == [
        "organization.yml",
        "sites/plain.yml:50",
        "meters.yml:2",
        "workloads.yml:2",
    ]
    assert told[0] == f"organization.yml: not found in {folder}: add the file"


BUILT_IN = "agenda_rules", "contract_kinds", "contract_lines"
"""Tables that Wattbook fills by itself."""


def test_one_site_and_one_meter_are_all_that_has_to_be_declared(tmp_path: Path):
    (tmp_path / "sites").mkdir()
    (tmp_path / "organization.yml").write_text(
        "organization_id: own\nname: Own\ntime_zone: Europe/Paris\nreporting_currency: EUR\n"
    )
    (tmp_path / "sites/hall.yml").write_text(
        "site_id: hall\nname: Hall\nvenue_kind: own_site\ncountry_code: FR\n"
        "time_zone: Europe/Paris\ncurrency_code: EUR\nterms:\n"
        "  - {valid_from: 2026-01-01, grid_firm_mw: 1, it_capacity_mw: 0.6, design_pue: 1.3}\n"
    )
    (tmp_path / "meters.yml").write_text(
        "meters: [{meter_id: M1, site_id: hall, role: grid_import}]\n"
    )

    tables = reference.flatten(reference.load(tmp_path))

    assert {
        name: len(rows) for name, rows in tables.items() if len(rows) and name not in BUILT_IN
    } == {
        "organization": 1,
        "sites": 1,
        "meters": 1,
        "workloads": 1,
    }
    assert tables["workloads"].rows(named=True) == [
        {
            "workload_id": "unassigned",
            "name": "Matched by no rule",
            "criticality": "sensitive",
            "max_deferral_hours": 0,
            "max_latency_ms": None,
            "value_per_lost_gpu_hour": None,
            "allowed_venues": ["own_site", "hpc_allocation", "public_cloud"],
            "allowed_countries": None,
        }
    ]
    limits = "grid_non_firm_mw", "electrical_limit_mw", "cooling_limit_mw", "price_sequence"
    assert tables["sites"].select(limits).rows() == [(0, None, None, 1)]


def test_names_declared_by_no_file_are_told_at_once(folder: Path):
    replace_once(
        folder / "meters.yml", "site_id: plain, role: grid_import", "site_id: x, role: it_load"
    )
    replace_once(folder / "contracts/plain-ppa.yml", "site_id: plain\n", "site_id: y\n")

    assert causes(folder) == [
        "meters.yml:2: meters.0.site_id: found 'x', expected a name declared in sites/",
        "contracts/plain-ppa.yml:4: site_id: found 'y', expected a name declared in sites/",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "fx_rates.csv: is not CSV: empty CSV"),
        (
            "rate_date,currency_code,rate_to_reporting\n",
            "sites/cloud.yml:6: currency_code: found 'USD', expected a name declared in"
            " fx_rates.csv",
        ),
        (
            "rate_date\n1,2\n",
            "fx_rates.csv: is not CSV: found more fields than defined in 'Schema'",
        ),
    ],
)
def test_a_file_without_rates_is_a_mistake_not_a_crash(folder: Path, text: str, message: str):
    (folder / "fx_rates.csv").write_text(text)

    assert causes(folder)[0] == message


NOT_READ = (
    "found a file that is not read: correct its name (files of sites/, contracts/ and decisions/"
    " end in .yml) or remove it"
)


@pytest.mark.parametrize(
    "name", ["contracts/new.yaml", "contracts/old/new.yml", "meter.yml", "tariffs/a.YML", "fx.csv"]
)
def test_a_file_that_would_not_be_read_is_named(folder: Path, name: str):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("contract_id: new\n")

    assert causes(folder) == [f"{name}: {NOT_READ}"]


def test_notes_beside_the_reference_data_are_nobodys_mistake(folder: Path):
    (folder / "contracts" / "README.md").write_text("Signed copies are in the safe.\n")
    (folder / ".gitignore").write_text("*.bak\n")

    assert len(reference.load(folder).sites) == 2


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            BOMB,
            "meters.yml:6: found more than 200000 values with every alias written out, expected"
            " fewer: remove aliases of aliases",
        ),
        (
            "[" * 100_000,
            "meters.yml:1: found values nested deeper than 30 levels, expected a few: correct the"
            " brackets or the indentation",
        ),
        (
            "".join("  " * depth + "a:\n" for depth in range(500)),
            "meters.yml:31: found values nested deeper than 30 levels, expected a few: correct the"
            " brackets or the indentation",
        ),
        (
            "meters: &all\n  - *all\n",
            "meters.yml:2: found *all within &all, expected no value that holds itself: write it"
            " out",
        ),
    ],
    ids=["bomb", "brackets", "indentation", "itself"],
)
def test_a_document_that_unfolds_without_end_is_refused_by_its_size(folder, text, message):
    (folder / "meters.yml").write_text(text)

    assert causes(folder) == [message]


def test_an_alias_of_a_few_values_is_as_if_they_were_written_out(folder: Path):
    text = FILES["meters.yml"].replace("site_id: plain", "site_id: &site plain", 1)
    (folder / "meters.yml").write_text(text.replace("site_id: plain", "site_id: *site"))

    assert {meter.site_id for meter in reference.load(folder).meters} == {"plain"}


def test_a_document_of_another_shape_is_a_mistake_not_a_crash(folder: Path):
    (folder / "meters.yml").write_text("- POI\n- [1, 2]\n")

    assert causes(folder) == [
        "meters.yml:1: found a list, expected fields with values: write it as in\n"
        "    meters:\n    - meter_id: meter\n      site_id: site"
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("plain-grid", "grid_connection"), ("plain-supply", "supply_tariff")],
)
def test_a_second_connection_or_supplier_of_a_site_at_one_time_is_refused(
    folder: Path, name: str, kind: str
):
    text = FILES[f"contracts/{name}.yml"].replace("contract_id: plain", "contract_id: other")
    other = folder / "contracts/zz-other.yml"
    replace_once(
        folder / "contracts/plain-grid.yml", "01-01\n", "01-01\n    valid_to: 2028-01-01\n"
    )
    other.write_text(
        text.replace("    valid_to: 2028-01-01\n", "").replace("2026-01-01", "2028-01-01")
    )
    assert len(reference.load(folder).contracts) == 6

    replace_once(other, "2028-01-01", "2027-12-31")

    line = other.read_text().split("valid_from")[0].count("\n") + 1
    assert causes(folder) == [
        f"contracts/zz-other.yml:{line}: terms.0.valid_from: found 2027-12-31, when {name} is the"
        f" {kind} of site plain, expected one at a time: end the earlier with valid_to"
    ]


def test_two_contracts_on_one_commitment_are_refused(folder: Path):
    text = FILES["contracts/cloud-commitment.yml"]
    (folder / "contracts/zz-other.yml").write_text(text.replace("contract_id: c", "contract_id: d"))

    assert causes(folder) == [
        f"contracts/{name}.yml:8: commitment_discount_id: found 'cud-1' in two contracts, expected"
        " one: its charges would be settled twice"
        for name in ("cloud-commitment", "zz-other")
    ]


def test_node_hours_of_an_allocation_are_those_of_listed_jobs(folder: Path):
    replace_once(
        folder / "sites/plain.yml", "clusters: [plain]\n", "clusters: [plain]\nholders: telemetry\n"
    )
    reference.load(folder)
    (folder / "contracts/plain-allocation.yml").write_text(
        "contract_id: plain-allocation\nkind: hpc_allocation\nname: Allocation\nsite_id: plain\n"
        "counterparty: Centre\ntime_zone: America/Chicago\ncurrency_code: USD\nterms:\n"
        "  - {valid_from: 2026-01-01, node_hours: 1000, price_per_node_hour: 2,"
        " is_shadow_price: true}\n"
    )

    assert causes(folder) == [
        "contracts/plain-allocation.yml:4: site_id: found site plain, whose holders are told by"
        " telemetry, expected one whose jobs are listed: it is settled by their node-hours"
    ]


def test_a_providers_bill_is_delivered_in_one_way(folder: Path):
    text = FILES["sites/cloud.yml"].replace("site_id: cloud", "site_id: cloud-west")
    text = text.replace("us-south1", "us-west1") + "  bill_delivery: append\n"
    (folder / "sites/cloud-west.yml").write_text(text)

    assert causes(folder) == [
        "sites/cloud.yml:7: cloud.bill_delivery: found overwrite, expected append as at Example"
        " Cloud's other sites: one bill is delivered in one way"
    ]


def test_contracts_on_the_grid_have_tables_of_their_own(folder: Path):
    tables = reference.flatten(reference.load(folder))

    assert tables["grid_connections"].rows(named=True) == [
        {
            "contract_id": "plain-grid",
            "site_id": "plain",
            "time_zone": "America/Chicago",
            "currency_code": "USD",
            "valid_from_at": datetime(2026, 1, 1, 6, tzinfo=UTC),
            "valid_to_at": None,
            "contracted_kw": 60000.0,
            "capacity_charge_per_kw_month": 0.5,
            "network_per_mwh": 6.0,
            "levies_per_mwh": 0.5,
            "demand_charge_per_kw": 4.0,
            "ratchet_ratio": 0.8,
            "demand_period_minutes": 30,
            "ratchet_months": 11,
        }
    ]
    holidays = tables["public_holidays"]
    assert set(holidays["calendar"]) == {"US"}
    assert holidays.filter(pl.col("holiday_date").dt.year() == 2026)["holiday_date"].to_list() == [
        date(2026, month, day)
        for month, day in (
            (1, 1),
            (1, 19),
            (2, 16),
            (5, 25),
            (6, 19),
            (7, 3),
            (7, 4),
            (9, 7),
            (10, 12),
            (11, 11),
            (11, 26),
            (12, 25),
        )
    ]
    # Of an open tariff to the end of the century, of this one to the year it ends in.
    assert holidays["holiday_date"].dt.year().unique().sort().to_list() == [2026, 2027, 2028]


def second_ppa(share: float, time_zone: str, valid_from: str) -> str:
    text = FILES["contracts/plain-ppa.yml"].split("terms:")[0]
    for old, new in (
        ("contract_id: plain-ppa", "contract_id: second"),
        ("share_of_plant: 0.5", f"share_of_plant: {share}"),
        ("America/Chicago", time_zone),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    return (
        f"{text}terms:\n"
        f"  - {{valid_from: {valid_from}, price_per_mwh: 30, negative_price_clause: none}}\n"
    )


def test_contracts_that_take_more_than_their_whole_plant_are_refused(folder: Path):
    other = folder / "contracts/second.yml"
    other.write_text(second_ppa(0.5, "America/Chicago", "2026-10-01"))
    assert len(reference.load(folder).of_kind(PayAsProducedPpa)) == 2

    other.write_text(second_ppa(0.6, "America/Chicago", "2026-10-01"))

    assert causes(folder) == [
        "contracts/second.yml:8: share_of_plant: contracts plain-ppa, second take 1.1 of plant"
        " meter PLANT from 2026-10-01T05:00Z on, expected at most 1: lower a share or end the"
        " terms of one"
    ]


def test_shares_of_a_plant_are_compared_in_time_not_in_local_dates(folder: Path):
    replace_once(
        folder / "contracts/plain-ppa.yml",
        "  - {valid_from: 2026-09-16, price_per_mwh: 29.75, negative_price_clause: no_volume}\n",
        "",
    )
    other = folder / "contracts/second.yml"
    other.write_text(second_ppa(0.6, "America/Chicago", "2026-09-16"))
    assert len(reference.load(folder).of_kind(PayAsProducedPpa)) == 2

    other.write_text(second_ppa(0.6, "Europe/Berlin", "2026-09-16"))

    assert causes(folder) == [
        "contracts/second.yml:8: share_of_plant: contracts plain-ppa, second take 1.1 of plant"
        " meter PLANT from 2026-09-15T22:00Z to 2026-09-16T05:00Z, expected at most 1: lower a"
        " share or end the terms of one"
    ]


def test_local_dates_become_the_instants_at_which_they_begin(folder: Path):
    tables = reference.flatten(reference.load(folder))

    validity = ["valid_from_at", "valid_to_at"]
    assert tables["sites"].filter(site_id="plain").select("grid_firm_mw", *validity).rows() == [
        # Chicago leaves daylight saving time on 2026-11-01 at 2 a.m., after the terms change.
        (50.0, datetime(2026, 1, 1, 6, tzinfo=UTC), datetime(2026, 11, 1, 5, tzinfo=UTC)),
        (55.0, datetime(2026, 11, 1, 5, tzinfo=UTC), None),
    ]
    assert tables["contracts"].filter(contract_id="plain-ppa").select(
        "price_per_mwh", "negative_price_clause", *validity
    ).rows() == [
        (31.5, "none", datetime(2026, 1, 1, 6, tzinfo=UTC), datetime(2026, 9, 16, 5, tzinfo=UTC)),
        (29.75, "no_volume", datetime(2026, 9, 16, 5, tzinfo=UTC), None),
    ]


def test_rates_as_central_banks_publish_them_are_enough(folder: Path):
    # None from Good Friday to Easter Monday, and none of the reporting currency at all.
    rates = "rate_date,currency_code,rate_to_reporting\n2026-04-02,USD,0.86\n2026-04-07,USD,0.87\n"
    (folder / "fx_rates.csv").write_text(rates)
    tables = reference.flatten(reference.load(folder))
    assert tables["fx_rates"].rows() == [
        (date(2026, 4, 2), "USD", 0.86),
        (date(2026, 4, 7), "USD", 0.87),
    ]
    assert tables["organization"]["fx_rate_holds_days"].to_list() == [5]


def test_a_currency_whose_rates_are_pulled_needs_none_declared(folder: Path):
    costs = folder / "site_costs.yml"
    text = costs.read_text()
    assert "currency_code: USD" in text
    costs.write_text(text.replace("currency_code: USD", "currency_code: CHF"))
    assert "found 'CHF', expected a name declared in fx_rates.csv" in causes(folder)[0]
    (folder / "sources.yml").write_text(
        "sources: [{name: bank, kind: ecb, currencies: [CHF, USD], first_day: 2026-01-01}]\n"
    )
    # Nor do days have to be declared of which the bank has a rate.
    with (folder / "fx_rates.csv").open("a") as rates:
        rates.write("2026-02-02,USD,0.88\n")
    reference.load(folder)
    replace_once(folder / "organization.yml", "reporting_currency: EUR", "reporting_currency: GBP")
    assert causes(folder) == [
        "sources.yml:1: sources.0.currencies: found no GBP, expected the currency of the reporting,"
        " by way of which the others are converted: add it"
    ]


def test_prices_of_a_contract_are_confidential_unless_it_says_that_they_are_public(folder: Path):
    file = folder / "contracts" / "plain-ppa.yml"
    before = reference.flatten(reference.load(folder))["contracts"]
    file.write_text(f"are_prices_public: true\n{file.read_text()}")
    after = reference.flatten(reference.load(folder))["contracts"]

    is_public = pl.col("are_prices_public")
    assert not before["are_prices_public"].any()
    assert after.filter(is_public)["contract_id"].unique().to_list() == ["plain-ppa"]


def test_a_threshold_left_out_holds_as_the_book_has_it(folder: Path):
    thresholds = ["full_power_ratio", "full_availability_ratio", "power_capped_ratio"]
    left_out = reference.flatten(reference.load(folder))["organization"].select(thresholds)
    (folder / "organization.yml").write_text(
        FILES["organization.yml"] + "thresholds:\n  full_power_ratio: 0.95\n"
    )
    stated = reference.flatten(reference.load(folder))["organization"].select(thresholds)

    assert (left_out.rows(), stated.rows()) == ([(0.98, 0.999, 0.02)], [(0.95, 0.999, 0.02)])


def test_a_rule_without_a_floor_of_its_own_has_the_default(folder: Path):
    (folder / "organization.yml").write_text(
        FILES["organization.yml"]
        + "agenda:\n  carbon_price_per_tonne: 80\n  carbon_price_source: EU ETS\n  floors:\n"
        + "    demand_peak: {least_weekly_worth: 50, least_capacity_mw: 0.2}\n"
    )
    tables = reference.flatten(reference.load(folder))
    floors = tables["agenda_rules"].filter(pl.col("rule_id").is_in(["demand_peak", "cheaper_hour"]))

    assert floors.rows() == [("cheaper_hour", 100.0, None), ("demand_peak", 50.0, 0.2)]
    assert tables["organization"].select(
        "carbon_price_per_tonne", "carbon_price_source"
    ).rows() == [(80.0, "EU ETS")]


def test_nodes_rules_and_the_plan_are_spelt_out(folder: Path):
    tables = reference.flatten(reference.load(folder))

    assert tables["nodes"].rows() == [
        ("pln0009", "plain", "H100", 8, 70.0, 700.0, 900.0, 2000.0),
        ("pln0010", "plain", "H100", 8, 70.0, 700.0, 900.0, 2000.0),
    ]
    assert tables["workload_rules"].rows(named=True) == [
        {
            "rule_order": 1,
            "cluster": "plain",
            "partition": "train",
            "qos": "*",
            "account": "*",
            "workload_id": "training",
        }
    ]
    assert tables["workloads"].select("allowed_countries", "max_latency_ms").rows() == [
        (None, None),
        (None, None),
    ]
    assert tables["workload_latencies"].is_empty()
    assert tables["capacity_plan"].rows() == [
        ("plain", date(2026, 4, 1), 26.0, 26.0, 0.7),
        ("plain", date(2026, 5, 1), 26.0, 26.0, 0.7),
        ("plain", date(2026, 6, 1), 28.0, 30.0, 0.8),
    ]
    assert tables["forward_prices"].rows() == [
        ("HB_NORTH", "USD", date(2026, 6, 1), 41.5),
        ("HB_NORTH", "USD", date(2026, 7, 1), 48.0),
    ]
    assert tables["tariffs"].select(
        "month_from", "month_to", "hour_from", "hour_to", "day_kind", "energy_price_per_mwh"
    ).rows() == [
        (1, 12, 0, 17, "all", 1.2),
        (1, 12, 17, 24, "workday", 3.0),
        (1, 12, 17, 24, "weekend_or_holiday", 2.0),
    ]


def test_any_host_name_can_be_declared(folder: Path):
    site = folder / "sites" / "plain.yml"
    group = (
        "  - {hostnames: [worker-9k2xq, 'ip-10-0-1-[2,4].ec2.internal'], gpus_per_node: 4,"
        " gpu_model: H100, host_idle_w: 900, host_peak_w: 2000}\n"
    )
    site.write_text(site.read_text().replace("terms:\n", f"{group}terms:\n", 1))
    nodes = reference.flatten(reference.load(folder))["nodes"]
    assert nodes.select("hostname", "gpu_count").rows() == [
        ("pln0009", 8),
        ("pln0010", 8),
        ("worker-9k2xq", 4),
        ("ip-10-0-1-2.ec2.internal", 4),
        ("ip-10-0-1-4.ec2.internal", 4),
    ]


def test_only_tables_that_changed_are_written_again(tmp_path: Path, folder: Path):
    book = Book(tmp_path)
    assert book.reference == folder
    assert sorted(lake.write_reference_tables(book)) == sorted(reference.TABLES)
    assert lake.write_reference_tables(book) == []

    replace_once(folder / "targets.yml", "0.99", "0.995")

    assert lake.write_reference_tables(book) == ["targets"]
    file = tmp_path / "lake" / "reference" / "targets.parquet"
    assert pl.read_parquet(file)["target"].to_list() == [0.995]


def test_a_mistake_leaves_the_tables_in_the_lake_as_they_were(tmp_path: Path, folder: Path):
    book = Book(tmp_path)
    lake.write_reference_tables(book)
    replace_once(folder / "targets.yml", "0.99", "0.995")
    replace_once(folder / "meters.yml", "role: grid_import", "role: grid")

    with pytest.raises(reference.ReferenceErrors):
        lake.write_reference_tables(book)

    file = tmp_path / "lake" / "reference" / "targets.parquet"
    assert pl.read_parquet(file)["target"].to_list() == [0.99]


def test_an_empty_book_is_nobodys(tmp_path: Path):
    message = (
        f"no reference data in {tmp_path / 'reference'}: run `wattbook init`, which asks what there"
        " is and writes it, or write organization.yml and a file of sites/ there"
    )
    for read in reference.load, reference.load_organization, reference.load_calendar:
        with pytest.raises(reference.ReferenceErrors) as raised:
            read(Book(tmp_path).reference)
        assert raised.value.causes == [message]


def test_the_demo_has_four_sites():
    loaded = reference.load(DEMO_REFERENCE)
    assert [site.site_id for site in loaded.sites] == [
        "cloud-us-south",
        "franklin",
        "juelich",
        "sparks",
    ]


MAPPINGS = """\
readings_csv:
  - folder: supplier
    delimiter: ";"
    decimal_mark: ","
    meter_id: {column: Meter, codes: {"1": POI}}
    flow: {constant: import}
    started_at: {columns: [Day, Time], format: "%d.%m.%Y %H:%M", time_zone: Europe/Berlin}
    interval_minutes: 15
    quantity: {column: kW, unit: kW}
    quality: {column: Status, codes: {W: measured}}
metrics:
  - metric: node_hwmon_power_average_watt
    quantity: node_power
    unit: W
    host: {label: instance}
    where: {sensor: power1}
  - metric: pdu_outlet_power
    quantity: node_power
    unit: W
    host: {label: outlet, names: {"3": pln0009}}
"""


def test_mappings_are_optional_and_kept_as_they_are_declared(folder: Path):
    assert reference.flatten(reference.load(folder))["mappings"].is_empty()
    (folder / "mappings.yml").write_text(MAPPINGS)
    declared = reference.load(folder).mappings
    assert [one.folder for one in declared.readings_csv] == ["supplier"]
    table = reference.flatten(reference.load(folder))["mappings"]
    assert table["section"].to_list() == ["readings_csv", "metrics", "metrics"]
    assert '"where":{"sensor":"power1"}' in table["declaration"][1]


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        (
            "unit: kW}",
            "unit: kVA}",
            "mappings.yml:9: readings_csv.0.quantity.unit: found 'kVA', expected Wh, kWh,"
            " MWh, W, kW or MW: correct it",
        ),
        (
            ", time_zone: Europe/Berlin}",
            "}",
            "mappings.yml:7: readings_csv.0.started_at: expected time_zone where format has no %z,"
            " and none where it has: name the zone that the times are in, such as Europe/Berlin,"
            " or UTC",
        ),
        (
            "%d.%m.%Y ",
            "",
            "mappings.yml:7: readings_csv.0.started_at: expected a format with year, month and"
            " day, such as %d.%m.%Y %H:%M",
        ),
        (
            "    interval_minutes: 15\n",
            "",
            "mappings.yml:2: readings_csv.0: expected two of started_at, ended_at and"
            " interval_minutes: add what is missing or remove the third",
        ),
        (
            "{W: measured}",
            "{W: real}",
            "mappings.yml:2: readings_csv.0: quality: found 'real', expected one of measured,"
            " estimated, substituted, missing: correct it",
        ),
        (
            'decimal_mark: ","',
            'decimal_mark: "."\n    delimiters: 2',
            "mappings.yml:5: readings_csv.0.delimiters: found an unknown field, expected"
            " perhaps delimiter: correct its name or remove it",
        ),
        (
            'delimiter: ";"',
            'delimiter: ","',
            "mappings.yml:2: readings_csv.0: found ',' as delimiter and decimal_mark, expected"
            " two: correct one of them",
        ),
        (
            "{constant: import}",
            "{constant: import, column: Flow}",
            "mappings.yml:6: readings_csv.0.flow: expected either column or constant: name one of"
            " the two",
        ),
        (
            '{"1": POI}',
            '{"1": PO}',
            "mappings.yml:5: readings_csv.0.meter_id.codes.1: found 'PO', expected a name declared"
            " in meters.yml: perhaps 'POI'",
        ),
        (
            "folder: supplier",
            "folder: ../supplier",
            "mappings.yml:2: readings_csv.0.folder: found '../supplier', expected a"
            " folder below landing/readings_csv/, as stadtwerke: correct it",
        ),
        (
            "    unit: W\n    host: {label: instance}",
            "    unit: Wh\n    host: {label: instance}",
            "mappings.yml:12: metrics.0: found Wh of node_power, expected one of mW, W, kW:"
            " correct one of the two",
        ),
        (
            "    host: {label: instance}\n",
            "    gpu: {label: gpu}\n",
            "mappings.yml:12: metrics.0: found the labels of gpu, expected those of host, which a"
            " node_power is of: add what is missing and remove what is not needed",
        ),
        (
            "pln0009",
            "pln0099",
            "mappings.yml:20: metrics.1.host.names.3: found 'pln0099', expected a name declared in"
            " node_groups of sites/: perhaps 'pln0009'",
        ),
    ],
)
def test_a_mistake_in_a_mapping_is_named_with_line_and_fix(folder: Path, old, new, cause):
    (folder / "mappings.yml").write_text(MAPPINGS)
    replace_once(folder / "mappings.yml", old, new)
    assert causes(folder) == [cause]


def test_a_folder_is_mapped_once(folder: Path):
    first, _, metrics = MAPPINGS.partition("metrics:")
    (folder / "mappings.yml").write_text(first + first.partition("readings_csv:\n")[2])
    assert metrics
    assert causes(folder) == [
        "mappings.yml:11: readings_csv.1: found 'supplier' twice, expected it once"
    ]
