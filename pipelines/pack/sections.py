"""What the sections of a pack ask, and which teams they are for.

What belongs here: one SQL statement per section, on the tables that a team sees, and the columns
that tell its rows apart. What does not: how an answer looks (`page.py`, `charts.py`), and formulas:
a section picks, orders and at most gathers the intervals of an hour.

Statements name `{week}`, `{first_date}`, `{last_date}` and `{time_zone}`. They are filled in and
not bound, so that what stands in a pack runs as it is copied; `document.py` makes the values, none
of which is free text.
"""

from dataclasses import dataclass

from pipelines.published.query import TEAMS, WITH_CONTRACT_PRICES


@dataclass(frozen=True)
class Section:
    """One question of the pack."""

    name: str
    key: tuple[str, ...]
    """Columns that tell its rows apart."""
    sql: str
    teams: tuple[str, ...] = TEAMS
    is_of_week: bool = True
    """Whether the answer is about this week alone, so that another answer later is a restatement.
    What looks ahead or back at other weeks changes as time goes on."""


# What an incident costs has the demand charge of a contract in it.
SUMMARY = """
select
    totals.week,
    targets.target_count,
    targets.met_count,
    targets.unknown_count,
    totals.incident_count,%s
    round(totals.lost_gpu_hours_sensitive, 6) as lost_gpu_hours_sensitive,
    round(totals.lost_gpu_hours_tolerant, 6) as lost_gpu_hours_tolerant,
    totals.coverage_ratio,
    totals.currency_code
from kpi_organization_weekly as totals
cross join (
    select
        count(target_value) as target_count,
        count(*) filter (where target_status = 'met') as met_count,
        count(*) filter (where target_status = 'unknown' and target_value is not null)
            as unknown_count
    from governance_scorecard
    where week = '{week}'
) as targets
where totals.week = '{week}'
"""

SITES = """
select site_id, name, venue_kind, country_code, time_zone
from dim_sites
where
    coalesce(valid_from_at, timestamptz '-infinity')
    < (date '{last_date}' + interval 1 day) at time zone '{time_zone}'
qualify row_number() over (partition by site_id order by valid_from_at desc nulls last) = 1
order by site_id
"""

SCORECARD = """
select
    scope,
    site_id,
    kpi_id,
    kpi_name,
    unit,
    kpi_value,
    target_value,
    direction,
    target_status,
    previous_value,
    lowest_8_weeks_value,
    highest_8_weeks_value,
    week_count,
    coverage_ratio,
    currency_code
from governance_scorecard
where week = '{week}'
order by scope, site_id nulls first, rank
"""

# What a public cloud never has is no gap.
GAPS = """
select
    site_id,
    input_id,
    effect,
    string_agg(kpi_name, ', ' order by rank) as kpi_names,
    max(missing_ratio) as missing_ratio,
    arg_max(reason, missing_ratio) as reason,
    any_value(comes_from) as comes_from
from kpi_gaps
where
    week = '{week}'
    and effect <> 'narrowed'
    and input_id <> 'own_supply'
group by all
order by site_id, min(rank)
"""

# The same of two tables: operations sees no proposal that rests on contract prices.
AGENDA = """
select
    rank,
    proposal_id,
    kind,
    owner,
    site_id,
    workload_id,
    contract_id,
    incident_id,
    title,
    proposal,
    inaction,
    weekly_worth,
    weekly_value,
    capacity_mw,
    weekly_saved_location_based_kg,
    confidence,
    confidence_reason,
    coverage_ratio,
    evidence_sql,
    currency_code
from %s
where week = '{week}'
order by rank
"""

# The lowest of an hour: a quarter of an hour without power has to show.
SUPPLY = """
select
    site_id,
    date_trunc('hour', interval_started_at) as hour_started_at,
    min(grid_mw) as grid_mw,
    min(local_mw) as local_mw,
    min(effective_it_mw) as effective_it_mw,
    max(committed_it_mw) as committed_it_mw,
    count(effective_it_mw) as known_interval_count
from fct_supply_capacity
where week = '{week}'
group by all
order by site_id, hour_started_at
"""

SITES_AND_ORGANIZATION = """
select
    'site' as scope,
    site_id,
%s
from kpi_site_weekly
where week = '{week}'

union all

select
    'organization' as scope,
    null as site_id,
%s
from kpi_organization_weekly
where week = '{week}'
order by scope, site_id
"""

_SUPPLY = """\
    mean_committed_it_mw,
    mean_effective_it_mw,
    minimum_effective_it_mw,
    mean_headroom_it_mw,
    minimum_headroom_it_mw,
    mean_headroom_gpu_count,
    mean_availability_ratio,
    minimum_availability_ratio,
    fully_available_ratio,
    mean_grid_mw,
    mean_local_mw,
    contracted_ratio,
    availability_coverage_ratio"""

SUPPLY_WEEK = SITES_AND_ORGANIZATION % (_SUPPLY, _SUPPLY)

INCIDENTS = """
select
    incident_id,
    site_id,
    primary_cause,
    signals,
    layer,
    started_at,
    ended_at,
    duration_minutes,
    severity,
    is_ongoing,
    greatest_shortfall_mw,
    unserved_mwh,
    lost_gpu_hours_sensitive,
    lost_gpu_hours_tolerant,
    deferred_gpu_hours,
    lost_value,
    replacement_energy_cost,
    deferral_cost,%s
    currency_code
from fct_energy_constraint_incidents
where
    started_at < (date '{last_date}' + interval 1 day) at time zone '{time_zone}'
    and ended_at > cast(date '{first_date}' as timestamp) at time zone '{time_zone}'
order by
    severity,
    %s desc nulls last,
    fct_energy_constraint_incidents.started_at,
    site_id
"""

INCIDENT_COSTS = """
    demand_charge_cost,
    penalty_cost,
    incident_cost,"""

# Of the sources that served an hour's intervals the dearest in merit order.
MARGINAL_COST = """
select
    site_id,
    cast(interval_started_at at time zone '{time_zone}' as date) as local_date,
    hour(interval_started_at at time zone '{time_zone}') as local_hour,
    round(avg(marginal_cost_per_gpu_hour), 6) as marginal_cost_per_gpu_hour,
    arg_max(
        marginal_source,
        list_position(
            ['local_surplus', 'commitment', 'grid', 'battery', 'on_demand', 'constrained'],
            marginal_source
        )
    ) as marginal_source,
    any_value(currency_code) as currency_code
from fct_marginal_cost
where week = '{week}'
group by all
order by site_id, local_date, local_hour
"""

# Capacity is weighted over venues: a site alone has none to weigh.
_MARGINAL_COST = """\
    mean_marginal_cost_per_gpu_hour,
    p95_marginal_cost_per_gpu_hour,
    %scapacity_weighted_cost_per_gpu_hour,
    marginal_local_surplus_ratio,
    marginal_commitment_ratio,
    marginal_grid_ratio,
    marginal_battery_ratio,
    marginal_on_demand_ratio,
    marginal_constrained_ratio,
    marginal_cost_coverage_ratio,
    currency_code"""

MARGINAL_COST_WEEK = SITES_AND_ORGANIZATION % (_MARGINAL_COST % "null as ", _MARGINAL_COST % "")

AVERAGE_COST = """
select site_id, contract_adjusted_cost_per_gpu_hour, fully_loaded_cost_per_gpu_hour, currency_code
from kpi_site_weekly
where week = '{week}'
order by site_id
"""

_CARBON = """\
    consumption_kwh,
    location_based_g_per_kwh,
    market_based_g_per_kwh,
    hourly_matched_g_per_kwh,
    location_based_kg,
    market_based_kg,
    hourly_matched_kg,
    scope_1_kg,
    carbon_free_ratio,
    carbon_coverage_ratio"""

CARBON = SITES_AND_ORGANIZATION % (_CARBON, _CARBON)

CARBON_FREE_HOURS = """
select
    site_id,
    hour(interval_started_at at time zone '{time_zone}') as local_hour,
    round(sum(carbon_free_kwh) / nullif(sum(consumption_kwh), 0), 6) as carbon_free_ratio
from fct_carbon
where week = '{week}' and carbon_free_kwh is not null
group by all
order by site_id, local_hour
"""

SEGMENTS = """
select
    workload_id,
    site_id,
    criticality,
    allocated_gpu_hours,
    lost_gpu_hours,
    energy_kwh,
    market_valued_energy_cost_per_gpu_hour,
    expected_energy_cost_per_gpu_hour,
    drift_ratio,
    location_based_g_per_gpu_hour,
    coverage_ratio,
    currency_code
from fct_workload_segments
where week = '{week}'
order by workload_id, site_id
"""

PLACEMENT = """
select
    workload_id,
    site_id,
    is_current,
    is_allowed,
    refusal_reasons,
    venue_marginal_cost_per_gpu_hour,
    movable_gpu_hours,
    move_saving_value,
    move_saved_location_based_kg,
    best_delay_hours,
    delayed_gpu_hours,
    delay_saving_value,
    coverage_ratio,
    currency_code
from fct_placement_options
where week = '{week}'
order by workload_id, site_id
"""

DEFERRALS = """
select
    workload_id,
    site_id,
    local_date,
    deferred_gpu_hours,
    caught_up_gpu_hours,
    lapsed_gpu_hours,
    outstanding_gpu_hours,
    saved_cost,
    saved_location_based_kg,
    coverage_ratio,
    currency_code
from fct_deferrals
where local_date between date '{first_date}' and date '{last_date}'
order by workload_id, site_id, local_date
"""

# Taken by this week's meeting or before, and judged no more than eight weeks ago.
DECISIONS = """
select
    decision_id,
    title,
    decided_by,
    meeting_week,
    review_week,
    measure,
    unit,
    before_value,
    counterfactual_value,
    measured_value,
    expected_change,
    measured_change,
    effect_status,
    reason,
    coverage_ratio
from fct_decision_effects
where meeting_week <= '{week}' and review_week >= strftime(date '{first_date}' - 56, '%G-W%V')
order by review_week, decision_id
"""

STATEMENTS = """
select
    lines.contract_id,
    lines.site_id,
    lines.contract_kind,
    lines.local_month,
    lines.statement_line_number,
    lines.line,
    lines.quantity,
    lines.quantity_unit,
    lines.unit_price,
    lines.contract_amount,
    lines.contract_currency_code,
    lines.amount,
    lines.currency_code,
    lines.coverage_ratio
from fct_contract_statements as lines
semi join fct_contract_values as agreements using (contract_id, local_month)
where
    lines.local_month
    = date_trunc('month', date '{last_date}' + interval 1 day) - interval 1 month
order by lines.contract_id, lines.statement_line_number
"""

CONTRACT_VALUES = """
select
    contract_id,
    site_id,
    contract_kind,
    local_month,
    volume_mwh,
    settlement_cost,
    spot_cost,
    contract_saving_value,
    average_price_per_mwh,
    market_price_per_mwh,
    coverage_ratio,
    currency_code
from fct_contract_values
where local_month = date_trunc('month', date '{last_date}' + interval 1 day) - interval 1 month
order by contract_id
"""

COVER = """
select
    site_id,
    consumption_kwh,
    local_kwh,
    contracted_kwh,
    grid_uncontracted_kwh,
    contracted_ratio
from kpi_site_weekly
where week = '{week}'
order by site_id
"""

SOURCING = """
select
    site_id,
    local_month,
    committed_mw,
    planned_mw,
    secured_mw,
    secured_by,
    energy_debt_mw,
    expected_debt_mw,
    energy_debt_mwh,
    energy_debt_cost,
    first_debt_month,
    volume_cover_p50_ratio,
    price_cover_ratio,
    missing_inputs,
    currency_code
from fct_sourcing_coverage
where
    local_month >= date_trunc('month', date '{last_date}')
    and local_month < date_trunc('month', date '{last_date}') + interval 24 months
order by site_id, local_month
"""

# Every source known to the book on every day of the week: a day without rows is a gap.
DATA_QUALITY = """
select
    sources.source_table,
    days.utc_date,
    quality.row_count,
    quality.estimated_row_count,
    quality.quarantined_row_count,
    quality.failed_file_count,
    quality.coverage_ratio
from (select distinct source_table from fct_data_quality) as sources
cross join (
    select date '{first_date}' + cast(unnest(range(7)) as integer) as utc_date
) as days
left join fct_data_quality as quality
    on sources.source_table = quality.source_table and days.utc_date = quality.utc_date
order by sources.source_table, days.utc_date
"""

# What touches the week, what is kept out of figures first.
FINDINGS = """
select
    rule_id,
    site_id,
    subject_id,
    flow,
    started_at,
    ended_at,
    occurrence_count,
    found_quantity,
    found_quantity_unit,
    expected,
    is_withheld,
    mend
from fct_findings
where
    started_at < timestamptz '{last_date} 00:00:00+00' + interval 1 day
    and coalesce(ended_at, timestamptz 'infinity') > timestamptz '{first_date} 00:00:00+00'
order by is_withheld desc, rule_id, site_id, subject_id, started_at
"""

SECTIONS = (
    Section(
        "summary",
        ("week",),
        SUMMARY % "\n    round(totals.incident_cost, 6) as incident_cost,",
        WITH_CONTRACT_PRICES,
    ),
    Section("summary", ("week",), SUMMARY % "", ("operations",)),
    Section("sites", ("site_id",), SITES),
    Section("scorecard", ("scope", "site_id", "kpi_id"), SCORECARD),
    # What of it changes changes the scorecard.
    Section("gaps", ("site_id", "input_id", "effect"), GAPS, is_of_week=False),
    Section("agenda", ("proposal_id",), AGENDA % "governance_agenda", WITH_CONTRACT_PRICES),
    Section("agenda", ("proposal_id",), AGENDA % "governance_agenda_operations", ("operations",)),
    Section("supply", ("site_id", "hour_started_at"), SUPPLY),
    Section("supply_week", ("scope", "site_id"), SUPPLY_WEEK),
    Section(
        "incidents",
        ("incident_id",),
        INCIDENTS % (INCIDENT_COSTS, "incident_cost"),
        WITH_CONTRACT_PRICES,
    ),
    Section("incidents", ("incident_id",), INCIDENTS % ("", "lost_value"), ("operations",)),
    Section("marginal_cost", ("site_id", "local_date", "local_hour"), MARGINAL_COST),
    Section("marginal_cost_week", ("scope", "site_id"), MARGINAL_COST_WEEK),
    Section("average_cost", ("site_id",), AVERAGE_COST, WITH_CONTRACT_PRICES),
    Section("carbon", ("scope", "site_id"), CARBON),
    Section("carbon_free_hours", ("site_id", "local_hour"), CARBON_FREE_HOURS),
    Section("segments", ("workload_id", "site_id"), SEGMENTS),
    Section("placement", ("workload_id", "site_id"), PLACEMENT),
    Section("deferrals", ("workload_id", "site_id", "local_date"), DEFERRALS),
    Section("decisions", ("decision_id",), DECISIONS, is_of_week=False),
    Section("cover", ("site_id",), COVER),
    Section(
        "statements", ("contract_id", "statement_line_number"), STATEMENTS, WITH_CONTRACT_PRICES
    ),
    Section("contract_values", ("contract_id",), CONTRACT_VALUES, WITH_CONTRACT_PRICES),
    Section(
        "sourcing", ("site_id", "local_month"), SOURCING, WITH_CONTRACT_PRICES, is_of_week=False
    ),
    Section("data_quality", ("source_table", "utc_date"), DATA_QUALITY),
    Section("findings", ("rule_id", "site_id", "subject_id", "flow", "started_at"), FINDINGS),
)
