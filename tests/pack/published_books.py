"""Small published books, written row by row: the tables that a pack asks, for one or two weeks."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import polars as pl

from pipelines.book import Book
from pipelines.published.query import TEAMS

WEEK = "2026-W44"
MONDAY = date(2026, 10, 26)
# Monday 00:00 in the organization's zone, Europe/Berlin, after the clocks went back.
STARTED_AT = datetime(2026, 10, 25, 23, tzinfo=UTC)
CONFIDENTIAL = {
    "governance_agenda",
    "fct_contract_statements",
    "fct_contract_values",
    "fct_sourcing_coverage",
}
KPIS = (
    ("effective_availability_ratio", "Effective MW availability", "ratio", 0.995, "at_least"),
    ("marginal_cost_per_gpu_hour", "Marginal GPU-hour cost", "EUR/GPU-hour", 0.25, "at_most"),
    ("location_based_g_per_kwh", "Carbon intensity, location-based", "g/kWh", 350.0, "at_most"),
    ("incident_count", "Energy-constraint incidents", "incidents", 1.0, "at_most"),
)
_WEEKLY = """week varchar, mean_committed_it_mw double, mean_effective_it_mw double,
    minimum_effective_it_mw double, mean_headroom_it_mw double, minimum_headroom_it_mw double,
    mean_headroom_gpu_count double, mean_availability_ratio double,
    minimum_availability_ratio double, fully_available_ratio double, mean_grid_mw double,
    mean_local_mw double, contracted_ratio double, availability_coverage_ratio double,
    mean_marginal_cost_per_gpu_hour double, p95_marginal_cost_per_gpu_hour double,
    marginal_local_surplus_ratio double, marginal_commitment_ratio double,
    marginal_grid_ratio double, marginal_battery_ratio double, marginal_on_demand_ratio double,
    marginal_constrained_ratio double, marginal_cost_coverage_ratio double,
    capacity_weighted_cost_per_gpu_hour double, contract_adjusted_cost_per_gpu_hour double,
    fully_loaded_cost_per_gpu_hour double,
    consumption_kwh double, local_kwh double, contracted_kwh double,
    grid_uncontracted_kwh double, location_based_g_per_kwh double,
    market_based_g_per_kwh double, hourly_matched_g_per_kwh double, location_based_kg double,
    market_based_kg double, hourly_matched_kg double, scope_1_kg double,
    carbon_free_ratio double, carbon_coverage_ratio double, incident_count bigint,
    incident_cost double, lost_gpu_hours_sensitive double, lost_gpu_hours_tolerant double,
    coverage_ratio double, currency_code varchar"""
_AGENDA = """week varchar, rank integer, proposal_id varchar, rule_id varchar, kind varchar,
    owner varchar, site_id varchar, workload_id varchar, contract_id varchar, incident_id varchar,
    title varchar, proposal varchar, inaction varchar, weekly_worth double,
    weekly_value double,
    capacity_mw double, weekly_saved_location_based_kg double,
    confidence varchar, confidence_reason varchar,
    coverage_ratio double, evidence_sql varchar, is_confidential boolean, currency_code varchar"""
TABLES = {
    "governance_agenda": _AGENDA,
    "governance_agenda_operations": _AGENDA,
    "fct_workload_segments": "workload_id varchar, site_id varchar, week varchar,"
    " criticality varchar, allocated_gpu_hours double, lost_gpu_hours double,"
    " energy_kwh double, market_valued_energy_cost_per_gpu_hour double,"
    " expected_energy_cost_per_gpu_hour double,"
    " drift_ratio double, location_based_g_per_gpu_hour double,"
    " coverage_ratio double, currency_code varchar",
    "fct_placement_options": "workload_id varchar, site_id varchar, week varchar,"
    " is_current boolean, is_allowed boolean, refusal_reasons varchar,"
    " venue_marginal_cost_per_gpu_hour double, movable_gpu_hours double,"
    " move_saving_value double,"
    " move_saved_location_based_kg double, best_delay_hours bigint, delayed_gpu_hours double,"
    " delay_saving_value double, coverage_ratio double, currency_code varchar",
    "raw_loads": "known_at timestamptz",
    "dim_sites": "site_id varchar, name varchar, venue_kind varchar, country_code varchar,"
    " time_zone varchar, valid_from_at timestamptz",
    "kpi_site_daily": "site_id varchar, local_date date, coverage_ratio double",
    "kpi_site_weekly": f"site_id varchar, {_WEEKLY}",
    "kpi_organization_weekly": _WEEKLY,
    "governance_scorecard": "week varchar, scope varchar, site_id varchar, rank integer,"
    " kpi_id varchar, kpi_name varchar, unit varchar, kpi_value double, target_value double,"
    " direction varchar, target_status varchar, previous_value double, lowest_8_weeks_value double,"
    " highest_8_weeks_value double, week_count bigint, coverage_ratio double,"
    " currency_code varchar",
    "kpi_gaps": "site_id varchar, week varchar, kpi_id varchar, kpi_name varchar, input_id varchar,"
    " effect varchar, missing_ratio double, reason varchar, comes_from varchar, rank bigint",
    "fct_deferrals": "workload_id varchar, site_id varchar, local_date date,"
    " deferred_gpu_hours double, caught_up_gpu_hours double, lapsed_gpu_hours double,"
    " outstanding_gpu_hours double, saved_cost double, saved_location_based_kg double,"
    " coverage_ratio double, currency_code varchar",
    "fct_decision_effects": "decision_id varchar, title varchar, decided_by varchar,"
    " meeting_week varchar, review_week varchar, measure varchar, unit varchar,"
    " before_value double,"
    " counterfactual_value double, measured_value double, expected_change double,"
    " measured_change double, effect_status varchar, reason varchar, coverage_ratio double",
    "fct_supply_capacity": "site_id varchar, interval_started_at timestamptz, week varchar,"
    " grid_mw double, local_mw double, effective_it_mw double, committed_it_mw double",
    "fct_energy_constraint_incidents": "incident_id varchar, site_id varchar,"
    " primary_cause varchar, signals varchar, layer varchar, started_at timestamptz,"
    " ended_at timestamptz, duration_minutes bigint, severity integer, is_ongoing boolean,"
    " greatest_shortfall_mw double, unserved_mwh double, lost_gpu_hours_sensitive double,"
    " lost_gpu_hours_tolerant double, deferred_gpu_hours double, lost_value double,"
    " replacement_energy_cost double, demand_charge_cost double, deferral_cost double,"
    " penalty_cost double, incident_cost double, currency_code varchar",
    "fct_marginal_cost": "site_id varchar, interval_started_at timestamptz, week varchar,"
    " marginal_source varchar, marginal_cost_per_gpu_hour double, currency_code varchar",
    "fct_carbon": "site_id varchar, interval_started_at timestamptz, week varchar,"
    " carbon_free_kwh double, consumption_kwh double",
    "fct_contract_statements": "contract_id varchar, site_id varchar, contract_kind varchar,"
    " local_month date, statement_line_number bigint, line varchar, quantity double,"
    " quantity_unit varchar, unit_price double, contract_amount double,"
    " contract_currency_code varchar, amount double, currency_code varchar,"
    " coverage_ratio double",
    "fct_contract_values": "contract_id varchar, site_id varchar, contract_kind varchar,"
    " local_month date, volume_mwh double, settlement_cost double, spot_cost double,"
    " contract_saving_value double, average_price_per_mwh double, market_price_per_mwh double,"
    " coverage_ratio double, currency_code varchar",
    "fct_sourcing_coverage": "site_id varchar, local_month date, committed_mw double,"
    " planned_mw double, secured_mw double, secured_by varchar, energy_debt_mw double,"
    " expected_debt_mw double,"
    " energy_debt_mwh double, energy_debt_cost double, first_debt_month date,"
    " volume_cover_p50_ratio double, price_cover_ratio double, missing_inputs varchar,"
    " currency_code varchar",
    "fct_findings": "rule_id varchar, source_table varchar, site_id varchar, subject_kind varchar,"
    " subject_id varchar, flow varchar, started_at timestamptz, ended_at timestamptz,"
    " occurrence_count bigint, found_quantity double, found_quantity_unit varchar,"
    " expected varchar, is_withheld boolean, source_files varchar[], mend varchar",
    "fct_data_quality": "source_table varchar, utc_date date, row_count bigint,"
    " estimated_row_count bigint, quarantined_row_count bigint, failed_file_count bigint,"
    " coverage_ratio double",
}

Rows = dict[str, list[dict[str, Any]]]


def usual_week() -> Rows:
    """A week of one site, `alpha`, in which all is known and one incident cost 1,234 EUR."""
    site = {
        "week": WEEK,
        "mean_committed_it_mw": 4.0,
        "mean_effective_it_mw": 4.975,
        "minimum_effective_it_mw": 0.0,
        "mean_headroom_it_mw": 0.975,
        "minimum_headroom_it_mw": -4.0,
        "mean_headroom_gpu_count": 850.0,
        "mean_availability_ratio": 0.994,
        "mean_marginal_cost_per_gpu_hour": 0.21,
        "p95_marginal_cost_per_gpu_hour": 0.4,
        "marginal_constrained_ratio": 0.006,
        "capacity_weighted_cost_per_gpu_hour": 0.26,
        "contract_adjusted_cost_per_gpu_hour": 0.19,
        "fully_loaded_cost_per_gpu_hour": 1.02,
        "availability_coverage_ratio": 1.0,
        "marginal_cost_coverage_ratio": 1.0,
        "consumption_kwh": 672_000.0,
        "local_kwh": 168_000.0,
        "contracted_kwh": 252_000.0,
        "grid_uncontracted_kwh": 252_000.0,
        "contracted_ratio": 0.375,
        "location_based_g_per_kwh": 251.4,
        "market_based_g_per_kwh": 310.0,
        "hourly_matched_g_per_kwh": 199.5,
        "location_based_kg": 168_940.8,
        "market_based_kg": 208_320.0,
        "hourly_matched_kg": 134_064.0,
        "scope_1_kg": 0.0,
        "carbon_free_ratio": 0.625,
        "carbon_coverage_ratio": 1.0,
        "incident_count": 1,
        "incident_cost": 1234.4,
        "lost_gpu_hours_sensitive": 12.0,
        "lost_gpu_hours_tolerant": 345.0,
        "coverage_ratio": 1.0,
        "currency_code": "EUR",
    }
    values = {
        "effective_availability_ratio": (0.994, "missed", 1.0, 0.99, 1.0),
        "marginal_cost_per_gpu_hour": (0.21, "met", 0.19, 0.15, 0.24),
        "location_based_g_per_kwh": (251.4, "met", 240.2, 220.0, 260.0),
        "incident_count": (1.0, "met", 0.0, 0.0, 2.0),
    }
    scorecard = [
        {
            "week": WEEK,
            "scope": scope,
            "site_id": site_id,
            "rank": rank,
            "kpi_id": kpi_id,
            "kpi_name": name,
            "unit": unit,
            "kpi_value": values[kpi_id][0],
            "target_value": target,
            "direction": direction,
            "target_status": values[kpi_id][1],
            "previous_value": values[kpi_id][2],
            "lowest_8_weeks_value": values[kpi_id][3],
            "highest_8_weeks_value": values[kpi_id][4],
            "week_count": 8,
            "coverage_ratio": 1.0,
            "currency_code": "EUR" if "EUR" in unit else None,
        }
        for scope, site_id in (("organization", None), ("site", "alpha"))
        for rank, (kpi_id, name, unit, target, direction) in enumerate(KPIS, start=1)
    ]
    hours = [STARTED_AT + timedelta(hours=hour) for hour in range(168)]
    return {
        "raw_loads": [{"known_at": datetime(2026, 11, 2, 6, tzinfo=UTC)}],
        "dim_sites": [site_row("alpha")],
        "kpi_site_daily": [
            {"site_id": "alpha", "local_date": MONDAY + timedelta(days=day), "coverage_ratio": 1.0}
            for day in range(7)
        ],
        "kpi_site_weekly": [{"site_id": "alpha", **site}],
        "kpi_organization_weekly": [site],
        "governance_scorecard": scorecard,
        "governance_agenda": [
            proposal(1, "ppa_under_delivers", "alpha-ppa", "Claim the shortfall of alpha-ppa"),
            proposal(2, "recurring_cause", "alpha", "Look into grid outages of alpha"),
        ],
        "governance_agenda_operations": [
            proposal(1, "recurring_cause", "alpha", "Look into grid outages of alpha")
        ],
        "fct_workload_segments": [
            {
                "workload_id": "training",
                "site_id": "alpha",
                "week": WEEK,
                "criticality": "tolerant",
                "allocated_gpu_hours": 60_000.0,
                "lost_gpu_hours": 345.0,
                "energy_kwh": 61_000.0,
                "market_valued_energy_cost_per_gpu_hour": 0.11,
                "expected_energy_cost_per_gpu_hour": 0.1,
                "drift_ratio": 0.1,
                "location_based_g_per_gpu_hour": 260.0,
                "coverage_ratio": 1.0,
                "currency_code": "EUR",
            }
        ],
        "fct_placement_options": [
            {
                "workload_id": "training",
                "site_id": "alpha",
                "week": WEEK,
                "is_current": True,
                "is_allowed": True,
                "refusal_reasons": None,
                "venue_marginal_cost_per_gpu_hour": 0.21,
                "movable_gpu_hours": 0.0,
                "move_saving_value": 0.0,
                "move_saved_location_based_kg": 0.0,
                "best_delay_hours": 6,
                "delayed_gpu_hours": 1200.0,
                "delay_saving_value": 340.0,
                "coverage_ratio": 1.0,
                "currency_code": "EUR",
            }
        ],
        "fct_deferrals": [
            {
                "workload_id": "training",
                "site_id": "alpha",
                "local_date": MONDAY + timedelta(days=1),
                "deferred_gpu_hours": 400.0,
                "caught_up_gpu_hours": 300.0,
                "lapsed_gpu_hours": 0.0,
                "outstanding_gpu_hours": 100.0,
                "saved_cost": 12.3,
                "saved_location_based_kg": None,
                "coverage_ratio": 1.0,
                "currency_code": "EUR",
            }
        ],
        "fct_decision_effects": [
            decision("cap", "2026-W40", "2026-W44"),
            decision("longer-ago", "2026-W20", "2026-W30"),
            decision("of-a-later-meeting", "2026-W45", "2026-W49"),
        ],
        "fct_supply_capacity": [
            {
                "site_id": "alpha",
                "interval_started_at": hour,
                "week": WEEK,
                "grid_mw": 0.0 if number == 33 else 6.0,
                "local_mw": 1.5,
                "effective_it_mw": 0.0 if number == 33 else 5.0,
                "committed_it_mw": 4.0,
            }
            for number, hour in enumerate(hours)
        ],
        "fct_energy_constraint_incidents": [incident(1, 33)],
        "fct_marginal_cost": [
            {
                "site_id": "alpha",
                "interval_started_at": hour,
                "week": WEEK,
                "marginal_source": marginal_source(number),
                "marginal_cost_per_gpu_hour": None if number == 33 else 0.04 + 0.01 * (number % 24),
                "currency_code": "EUR",
            }
            for number, hour in enumerate(hours)
        ],
        "fct_carbon": [
            {
                "site_id": "alpha",
                "interval_started_at": hour,
                "week": WEEK,
                "carbon_free_kwh": 4000.0 if 8 <= number % 24 < 18 else 1000.0,
                "consumption_kwh": 4000.0,
            }
            for number, hour in enumerate(hours)
        ],
        "fct_contract_statements": [
            {
                "contract_id": "alpha-ppa",
                "site_id": "alpha",
                "contract_kind": "ppa_pay_as_produced",
                "local_month": date(2026, 10, 1),
                "statement_line_number": 1,
                "line": "energy",
                "quantity": 1000.0,
                "quantity_unit": "MWh",
                "unit_price": 37.77,
                "contract_amount": 37770.0,
                "contract_currency_code": "EUR",
                "amount": 37770.0,
                "currency_code": "EUR",
                "coverage_ratio": 1.0,
            }
        ],
        "fct_contract_values": [
            {
                "contract_id": "alpha-ppa",
                "site_id": "alpha",
                "contract_kind": "ppa_pay_as_produced",
                "local_month": date(2026, 10, 1),
                "volume_mwh": 1000.0,
                "settlement_cost": 37770.0,
                "spot_cost": 42000.0,
                "contract_saving_value": 4230.0,
                "average_price_per_mwh": 37.77,
                "market_price_per_mwh": 42.0,
                "coverage_ratio": 1.0,
                "currency_code": "EUR",
            }
        ],
        "fct_sourcing_coverage": [
            {
                "site_id": "alpha",
                "local_month": date(2026 + (10 + month) // 12, (10 + month) % 12 + 1, 1),
                "committed_mw": 4.8 if month < 12 else 8.0,
                "secured_mw": 7.0,
                "energy_debt_mw": 0.0 if month < 12 else 1.0,
                "expected_debt_mw": 0.0 if month < 12 else 0.5,
                "energy_debt_mwh": 0.0 if month < 12 else 700.0,
                "energy_debt_cost": 0.0 if month < 12 else 35000.0,
                "currency_code": "EUR",
            }
            for month in range(24)
        ],
        "fct_data_quality": [
            {
                "source_table": source,
                "utc_date": MONDAY + timedelta(days=day),
                "row_count": 288,
                "estimated_row_count": 0,
                "quarantined_row_count": 3 if (source, day) == ("meter_readings", 2) else 0,
                "failed_file_count": 0,
                "coverage_ratio": 1.0,
            }
            for source in ("gpu_samples", "meter_readings")
            for day in range(7)
        ],
    }


def proposal(rank: int, rule_id: str, subject: str, title: str) -> dict[str, Any]:
    return {
        "week": WEEK,
        "rank": rank,
        "proposal_id": f"{rule_id}:{subject}",
        "rule_id": rule_id,
        "kind": "contract" if "ppa" in rule_id else "grid_risk",
        "owner": "energy",
        "title": title,
        "proposal": "Have 12.5 MWh <made good>, for 1,234 EUR.",
        "inaction": "The same again in week 45.",
        "weekly_worth": 1234.4,
        "weekly_value": 1234.4,
        "capacity_mw": 4.0,
        "weekly_saved_location_based_kg": None,
        "confidence": "medium",
        "confidence_reason": "two weeks are known",
        "coverage_ratio": 1.0,
        "evidence_sql": f"select * from kpi_site_weekly where week = '{WEEK}'",
        "currency_code": "EUR",
    }


def decision(decision_id: str, week: str, review_week: str) -> dict[str, Any]:
    return {
        "decision_id": decision_id,
        "title": f"Decision {decision_id}",
        "decided_by": "infra",
        "meeting_week": week,
        "review_week": review_week,
        "measure": "energy_kwh_per_gpu_hour",
        "unit": "kWh/GPU-hour",
        "before_value": 0.6,
        "counterfactual_value": 0.61,
        "measured_value": 0.56,
        "expected_change": -0.05,
        "measured_change": -0.05,
        "effect_status": "as_expected",
        "reason": "The change is at least three quarters of what was expected.",
        "coverage_ratio": 1.0,
    }


def site_row(site_id: str) -> dict[str, Any]:
    return {
        "site_id": site_id,
        "name": f"Site <{site_id}>",
        "venue_kind": "own_site",
        "country_code": "DE",
        "time_zone": "Europe/Berlin",
    }


def incident(number: int, hour: float) -> dict[str, Any]:
    started_at = STARTED_AT + timedelta(hours=hour)
    return {
        "incident_id": f"incident-{number:03d}",
        "site_id": "alpha",
        "primary_cause": "grid_outage",
        "signals": "grid_outage,supply_shortfall",
        "layer": "grid",
        "started_at": started_at,
        "ended_at": started_at + timedelta(minutes=30),
        "duration_minutes": 30,
        "severity": 1,
        "is_ongoing": False,
        "greatest_shortfall_mw": 4.0,
        "unserved_mwh": 2.0,
        "lost_gpu_hours_sensitive": 12.0,
        "lost_gpu_hours_tolerant": 345.0,
        "deferred_gpu_hours": 20.0,
        "lost_value": 1200.0,
        "replacement_energy_cost": 34.4,
        "demand_charge_cost": 2.5,
        "deferral_cost": -2.5,
        "penalty_cost": 0.0,
        "incident_cost": 1234.4,
        "currency_code": "EUR",
    }


def marginal_source(hour: int) -> str:
    if hour == 33:
        return "constrained"
    return "battery" if hour % 24 > 20 else "grid"


def write(book: Book, rows: Rows, teams: Iterable[str] = TEAMS) -> Book:
    """Publish the rows to the teams, contract prices to finance and energy alone."""
    book.published.mkdir(parents=True, exist_ok=True)
    for team in teams:
        file = book.published / f"{team}.duckdb"
        file.unlink(missing_ok=True)
        with duckdb.connect(str(file)) as connection:
            connection.execute("set timezone = 'UTC'")
            connection.execute("create schema marts")
            for table, columns in TABLES.items():
                if team == "operations" and table in CONFIDENTIAL:
                    continue
                connection.execute(f"create table marts.{table} ({columns})")
                if rows.get(table):
                    frame = pl.DataFrame(rows[table], infer_schema_length=None)
                    connection.register("frame", frame.to_arrow())
                    connection.execute(f"insert into marts.{table} by name select * from frame")
    return book
