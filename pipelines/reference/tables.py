"""The flat tables of the reference data, in which the warehouse reads it.

What belongs here: columns, rows and files of `lake/reference`. What does not: any computation with
the values (dbt).
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

import polars as pl

from pipelines.reference import project
from pipelines.reference.contracts import KINDS, Contract
from pipelines.reference.contracts.grid import GridConnection, SupplyTariff, holidays_of
from pipelines.reference.contracts.power import EnergyTerms, FixedShapePpa, PlantContract
from pipelines.reference.fields import Dated, local_midnight
from pipelines.reference.model import Reference
from pipelines.reference.organization import CapacityPlan, Floor


def flatten(reference: Reference) -> dict[str, pl.DataFrame]:
    """The reference data as flat tables, one row per entity and version of its terms.

    Local dates become the UTC instants at which they begin (`valid_from_at`, `valid_to_at`).
    """
    site_zone = {site.site_id: site.time_zone for site in reference.sites}
    organization_zone = reference.organization.time_zone
    floors = reference.organization.agenda.floors
    site_fields = (
        "site_id",
        "name",
        "venue_kind",
        "country_code",
        "time_zone",
        "bidding_zone",
        "price_market",
        "price_sequence",
        "carbon_zone",
        "currency_code",
        "grid_event_target",
    )
    rows: dict[str, list[dict[str, Any]]] = {
        "organization": [
            {
                **reference.organization.model_dump(
                    exclude={
                        "agenda",
                        "confidential_rounding_ratio",
                        "first_day",
                        "team_groups",
                        "thresholds",
                        "zones",
                    }
                ),
                **reference.organization.thresholds.model_dump(),
                **reference.organization.agenda.model_dump(exclude={"floors"}),
            }
        ],
        "agenda_rules": [
            {"rule_id": rule_id, **floors.get(rule_id, Floor()).model_dump()}
            for rule_id in project.agenda_rules()
        ],
        "gpu_models": [model.model_dump() for model in reference.gpu_models],
        "sites": [
            {**{name: getattr(site, name) for name in site_fields}, **_dated(terms, site.time_zone)}
            for site in reference.sites
            for terms in (site.terms or (None,))
        ],
        "clusters": [
            {
                "cluster": cluster,
                "site_id": site.site_id,
                "time_zone": site.time_zone,
                "holders": site.holders,
            }
            for site in reference.sites
            for cluster in site.clusters
        ],
        "nodes": list(_node_rows(reference)),
        "batteries": [
            {"site_id": site.site_id, **_dated(battery, site.time_zone)}
            for site in reference.sites
            for battery in site.batteries
        ],
        "data_centre_years": [
            {
                "site_id": site.site_id,
                **entry.model_dump(exclude={"year", "refrigerants"}),
                "local_year": date(entry.year, 1, 1),
                "refrigerants": entry.refrigerants and ", ".join(entry.refrigerants),
            }
            for site in reference.sites
            for entry in site.data_centre_years
        ],
        "cloud_skus": [
            {
                "site_id": site.site_id,
                "provider_name": site.cloud.provider_name,
                "region_id": site.cloud.region_id,
                "sku_id": sku_id,
                "gpu_model": site.cloud.gpu_model,
                "gpu_count": gpu_count,
                "bill_delivery": site.cloud.bill_delivery,
            }
            for site in reference.sites
            if site.cloud
            for sku_id, gpu_count in site.cloud.gpus_per_instance.items()
        ],
        "meters": [_dated(meter, site_zone[meter.site_id]) for meter in reference.meters],
        "contracts": [
            {
                **contract.model_dump(exclude={"terms"}),
                **_dated(terms, contract.time_zone),
                **_plant_columns(contract, terms),
            }
            for contract in reference.contracts
            for terms in contract.terms
        ],
        "contract_kinds": [
            {
                "contract_kind": kind,
                **{column: getattr(model, column) for column in _CLASSIFICATION},
            }
            for kind, model in KINDS.items()
        ],
        "contract_lines": [
            {
                "contract_kind": kind,
                "line": line,
                "line_order": order,
                "cost_component": component,
            }
            for kind, model in KINDS.items()
            for order, (line, component) in enumerate(model.lines.items(), start=1)
        ],
        "contract_shapes": [
            {
                "contract_id": contract.contract_id,
                "valid_from_at": local_midnight(terms.valid_from, contract.time_zone),
                "month_from": window.months[0],
                "month_to": window.months[1],
                "day_kind": window.day_kind,
                "hour_from": window.hours[0],
                "hour_to": window.hours[1],
                "power_mw": window.mw,
            }
            for contract in reference.contracts
            if isinstance(contract, FixedShapePpa)
            for terms in contract.terms
            for window in terms.shape
        ],
        "grid_connections": [
            {**_contract(connection), **_dated(terms, connection.time_zone)}
            for connection in reference.of_kind(GridConnection)
            for terms in connection.terms
        ],
        "tariffs": [
            {
                **_contract(tariff),
                **_dated(terms, tariff.time_zone, without={"periods"}),
                "month_from": period.months[0],
                "month_to": period.months[1],
                "hour_from": period.hours[0],
                "hour_to": period.hours[1],
                "day_kind": period.day_kind,
                "energy_price_per_mwh": period.energy_price_per_mwh,
            }
            for tariff in reference.of_kind(SupplyTariff)
            for terms in tariff.terms
            for period in terms.periods
        ],
        "public_holidays": list(_holiday_rows(reference)),
        "workloads": [
            workload.model_dump(exclude={"latency_ms"}) for workload in reference.workloads
        ],
        "workload_latencies": [
            {"workload_id": workload.workload_id, "site_id": site_id, "latency_ms": latency_ms}
            for workload in reference.workloads
            for site_id, latency_ms in workload.latency_ms.items()
        ],
        "workload_rules": [
            {"rule_order": order, **rule.model_dump()}
            for order, rule in enumerate(reference.rules, start=1)
        ],
        "capacity_plan": list(_plan_rows(reference.capacity_plan)),
        "emission_factors": [
            _dated(factor, organization_zone) for factor in reference.emission_factors
        ],
        "price_indices": reference.price_indices.rows(named=True),
        "forward_prices": reference.forward_prices.rows(named=True),
        "fx_rates": reference.fx_rates.rows(named=True),
        "targets": [target.model_dump() for target in reference.targets],
        "site_costs": [_dated(cost, site_zone[cost.site_id]) for cost in reference.site_costs],
        "decisions": [decision.model_dump() for decision in reference.decisions],
        "mappings": [
            {"section": section, "declaration": mapping.model_dump_json()}
            for section in ("readings_csv", "metrics")
            for mapping in getattr(reference.mappings, section)
        ],
    }
    return {name: pl.DataFrame(rows[name], schema=schema) for name, schema in TABLES.items()}


_INSTANT = pl.Datetime("us", "UTC")


_TEXT, _NUMBER, _COUNT, _FLAG = pl.String(), pl.Float64(), pl.Int64(), pl.Boolean()


def _columns(**kinds: str) -> dict[str, pl.DataType]:
    return {
        name: kind
        for kind_name, names in kinds.items()
        for name, kind in ((n, _KINDS[kind_name]) for n in names.split())
    }


_KINDS: dict[str, pl.DataType] = {
    "text": _TEXT,
    "number": _NUMBER,
    "count": _COUNT,
    "flag": _FLAG,
    "instant": _INSTANT,
    "day": pl.Date(),
    "texts": pl.List(pl.String()),
    "numbers": pl.List(pl.Float64()),
}


_VALIDITY = "valid_from_at valid_to_at"
_LAST_YEAR = 2099
"""Up to which open terms are given their public holidays."""


TABLES: dict[str, dict[str, pl.DataType]] = {
    "organization": _columns(
        text="organization_id name time_zone reporting_currency emission_factor_basis"
        " carbon_price_source",
        number="full_power_ratio full_availability_ratio power_capped_ratio carbon_price_per_tonne",
        count="fx_rate_holds_days landing_kept_days",
    ),
    "agenda_rules": _columns(text="rule_id", number="least_weekly_worth least_capacity_mw"),
    "gpu_models": _columns(text="gpu_model", number="idle_w peak_w embodied_kg lifetime_hours"),
    "sites": _columns(
        text="site_id name venue_kind country_code time_zone bidding_zone price_market carbon_zone"
        " currency_code grid_event_target",
        count="price_sequence",
        instant=_VALIDITY,
        number="grid_firm_mw grid_non_firm_mw electrical_limit_mw cooling_limit_mw it_capacity_mw"
        " design_pue variable_cost_per_gpu_hour local_committed_mw sustain_hours"
        " price_stop_per_mwh",
        flag="is_local_islandable",
    ),
    "clusters": _columns(text="cluster site_id time_zone holders"),
    "nodes": _columns(
        text="hostname site_id gpu_model",
        count="gpu_count",
        number="idle_w peak_w host_idle_w host_peak_w",
    ),
    "batteries": _columns(
        text="battery_id site_id chemistry power_sign",
        number="power_mw energy_mwh reserve_ratio charge_efficiency discharge_efficiency"
        " degradation_cost_per_mwh",
        instant=_VALIDITY,
    ),
    "data_centre_years": _columns(
        text="site_id operator lau_code data_centre_type in_operation_since electrical_redundancy"
        " cooling_redundancy grid_functions refrigerants",
        day="local_year",
        number="total_floor_area_m2 computer_room_area_m2 battery_offered_kw water_input_m3"
        " potable_water_input_m3 waste_heat_reused_kwh waste_heat_celsius intake_setpoint_celsius"
        " cooling_degree_days server_capacity_sert storage_capacity_pb"
        " incoming_bandwidth_gb_per_s outgoing_bandwidth_gb_per_s incoming_traffic_eb"
        " outgoing_traffic_eb",
    ),
    "cloud_skus": _columns(
        text="site_id provider_name region_id sku_id gpu_model bill_delivery", number="gpu_count"
    ),
    "meters": _columns(
        text="meter_id flow site_id role accuracy_class energy_source battery_id contract_id"
        " estimate",
        number="multiplier variable_cost_per_mwh",
        instant=_VALIDITY,
    ),
    "contracts": _columns(
        text="contract_id kind name site_id counterparty time_zone currency_code tax_treatment"
        " rounding plant_meter_id settlement_zone market energy_source certificates shape_risk"
        " fixed_price_payer escalation_kind escalation_index negative_price_clause"
        " negative_price_scope battery_id commitment_discount_id sku",
        number="tax_ratio plant_capacity_mw share_of_plant price_per_mwh baseload_mw"
        " floor_price_per_mwh cap_price_per_mwh certificate_price_per_mwh"
        " escalation_ratio_per_year escalation_floor_ratio_per_year"
        " escalation_cap_ratio_per_year annual_volume_mwh tolerance_ratio"
        " shortfall_price_per_mwh excess_price_per_mwh tolled_mw fixed_fee_per_mw_month"
        " variable_fee_per_mwh guaranteed_availability_ratio damages_per_mwh_unavailable"
        " guaranteed_round_trip_ratio round_trip_damages_per_mwh throughput_limit_mwh_per_year"
        " excess_throughput_per_mwh hourly_price kw_per_gpu node_hours price_per_node_hour",
        numbers="p50_mwh p90_mwh",
        count="settlement_period_minutes negative_price_period_minutes escalation_lag_months"
        " negative_price_hours gpu_count",
        day="escalation_base_date escalation_base_month",
        flag="are_certificates_bundled is_shadow_price are_prices_public",
        instant=_VALIDITY,
    ),
    "contract_kinds": _columns(
        text="contract_kind settlement_model volume_basis owner after_end",
        flag="is_ppa is_delivered is_collared",
    ),
    "contract_lines": _columns(text="contract_kind line cost_component", count="line_order"),
    "contract_shapes": _columns(
        text="contract_id day_kind",
        instant="valid_from_at",
        count="month_from month_to hour_from hour_to",
        number="power_mw",
    ),
    "grid_connections": _columns(
        text="contract_id site_id time_zone currency_code",
        instant=_VALIDITY,
        number="contracted_kw capacity_charge_per_kw_month network_per_mwh levies_per_mwh"
        " demand_charge_per_kw ratchet_ratio",
        count="demand_period_minutes ratchet_months",
    ),
    "tariffs": _columns(
        text="contract_id site_id time_zone currency_code price_basis holiday_calendar day_kind",
        instant=_VALIDITY,
        number="energy_price_per_mwh export_price_per_mwh",
        count="month_from month_to hour_from hour_to",
        flag="credits_contracted_energy",
    ),
    "public_holidays": _columns(text="calendar", day="holiday_date"),
    "workloads": _columns(
        text="workload_id name criticality",
        number="max_deferral_hours max_latency_ms value_per_lost_gpu_hour",
        texts="allowed_venues allowed_countries",
    ),
    "workload_latencies": _columns(text="workload_id site_id", number="latency_ms"),
    "workload_rules": _columns(
        count="rule_order", text="cluster partition qos account workload_id"
    ),
    "capacity_plan": _columns(
        text="site_id", day="month", number="committed_it_mw planned_it_mw utilization_ratio"
    ),
    "emission_factors": _columns(
        text="factor_id zone energy_source kind basis source version",
        number="value_g_per_kwh",
        flag="is_marginal",
        instant=_VALIDITY,
    ),
    "price_indices": _columns(text="index", day="month", number="value"),
    "forward_prices": _columns(text="zone currency_code", day="month", number="price_per_mwh"),
    "fx_rates": _columns(day="rate_date", text="currency_code", number="rate_to_reporting"),
    "targets": _columns(text="kpi_id site_id direction", number="target"),
    "decisions": _columns(
        text="decision_id title kind decided_by week review_week site_id workload_id measure"
        " to_site_id agenda_proposal_id",
        day="decided_on effective_from",
        number="expected_change expected_energy_cost_per_gpu_hour power_limit_ratio",
    ),
    "mappings": _columns(text="section declaration"),
    "site_costs": _columns(
        text="cost_id site_id kind name currency_code", number="amount", instant=_VALIDITY
    ),
}
"""Flat table -> its columns, as `lake/reference/<table>.parquet` holds them."""


_CLASSIFICATION = tuple(name for name in TABLES["contract_kinds"] if name != "contract_kind")


def _dated(terms: Dated | None, time_zone: str, without: set[str] | None = None) -> dict[str, Any]:
    if terms is None:
        return {"valid_from_at": local_midnight(date(1970, 1, 1), time_zone)}
    return {
        **terms.model_dump(exclude={"valid_from", "valid_to", *(without or ())}),
        "valid_from_at": local_midnight(terms.valid_from, time_zone),
        "valid_to_at": terms.valid_to and local_midnight(terms.valid_to, time_zone),
    }


def _plant_columns(contract: Contract, terms: Dated) -> dict[str, Any]:
    """What a contract and its terms say in other words than their fields."""
    if not isinstance(contract, PlantContract) or not isinstance(terms, EnergyTerms):
        return {}
    escalation = terms.escalation.model_dump() if terms.escalation else {}
    if "base_month" in escalation:
        escalation["base_month"] = date.fromisoformat(f"{escalation['base_month']}-01")
    minutes = contract.settlement_period_minutes
    return {
        "settlement_period_minutes": None if minutes == "month" else minutes,
        "are_certificates_bundled": contract.certificates == "bundled",
        **{f"escalation_{name}": value for name, value in escalation.items()},
    }


def _contract(contract: GridConnection | SupplyTariff) -> dict[str, Any]:
    return contract.model_dump(include={"contract_id", "site_id", "time_zone", "currency_code"})


def _holiday_rows(reference: Reference) -> Iterator[dict[str, Any]]:
    """Holidays of each calendar a tariff names, in all years of its terms."""
    years: dict[str, set[int]] = {}
    for tariff in reference.of_kind(SupplyTariff):
        for terms in tariff.terms:
            if terms.holiday_calendar is not None:
                last = _LAST_YEAR if terms.valid_to is None else terms.valid_to.year
                years.setdefault(terms.holiday_calendar, set()).update(
                    range(terms.valid_from.year, last + 1)
                )
    for calendar in sorted(years):
        for day in holidays_of(calendar, years[calendar]):
            yield {"calendar": calendar, "holiday_date": day}


def _node_rows(reference: Reference) -> Iterator[dict[str, Any]]:
    models = {model.gpu_model: model for model in reference.gpu_models}
    for site in reference.sites:
        for group in site.node_groups:
            model = models[group.gpu_model]
            for hostname in group.names():
                yield {
                    "hostname": hostname,
                    "site_id": site.site_id,
                    "gpu_count": group.gpus_per_node,
                    "gpu_model": group.gpu_model,
                    "idle_w": model.idle_w,
                    "peak_w": model.peak_w,
                    "host_idle_w": group.host_idle_w,
                    "host_peak_w": group.host_peak_w,
                }


def _plan_rows(plan: CapacityPlan) -> Iterator[dict[str, Any]]:
    for site_id in sorted({commitment.site_id for commitment in plan.commitments}):
        steps = sorted(
            (c for c in plan.commitments if c.site_id == site_id), key=lambda c: c.from_month
        )
        assert plan.until is not None
        ends = [*(step.from_month for step in steps[1:]), plan.until]
        for step, end in zip(steps, ends, strict=True):
            planned = step.committed_it_mw if step.planned_it_mw is None else step.planned_it_mw
            for month in pl.date_range(
                date.fromisoformat(f"{step.from_month}-01"),
                date.fromisoformat(f"{end}-01"),
                "1mo",
                closed="left",
                eager=True,
            ):
                yield {
                    "site_id": site_id,
                    "month": month,
                    "committed_it_mw": step.committed_it_mw,
                    "planned_it_mw": planned,
                    "utilization_ratio": step.utilization_ratio,
                }
