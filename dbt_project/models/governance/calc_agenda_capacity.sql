{# A connection or a contract takes this long to secure. #}
{% set lead_time_months = 12 %}

with

weeks as (

    select *
    from {{ ref("calc_weeks") }}

),

-- commitment_outruns_supply
short_weeks as (

    select
        site_id,
        week,
        count(*) filter (where effective_it_mw < committed_it_mw) / 4 as short_hours,
        max(committed_it_mw) as committed_it_mw,
        max(committed_it_mw - effective_it_mw) as shortfall_mw,
        {{ interval_mw_to_mwh(exact_sum("committed_it_mw - effective_it_mw", "effective_it_mw < committed_it_mw")) }}
            as unserved_mwh
    from {{ ref("fct_supply_capacity") }}
    group by site_id, week
    having count(*) filter (where effective_it_mw < committed_it_mw) > 0

),

shortfall_costs as (

    select
        site_id,
        week,
        {{ sum_if_all_known("incident_cost") }} as incident_cost
    from {{ ref("fct_energy_constraint_incidents") }}
    where contains(signals, 'supply_shortfall')
    group by site_id, week

),

commitment_outruns_supply as (

    select
        short_weeks.week,
        'commitment_outruns_supply' as rule_id,
        short_weeks.site_id as subject,
        'infra' as owner,
        short_weeks.site_id,
        short_weeks.site_id || ' could not carry its commitment for '
        || {{ in_words("short_weeks.short_hours", 1) }} || ' hours' as title,
        'Back ' || short_weeks.site_id || ' with ' || {{ in_words("short_weeks.shortfall_mw", 1) }}
        || ' MW that the grid cannot take away (storage, or tolerant work that stops on call), or promise no more than '
        || {{ in_words("short_weeks.committed_it_mw - short_weeks.shortfall_mw", 1) }} || ' of its '
        || {{ in_words("short_weeks.committed_it_mw", 1) }} || ' MW as firm.' as proposal,
        case
            when shortfall_costs.incident_cost is not null
                then
                    'The next such week again leaves ' || {{ in_words("short_weeks.unserved_mwh", 1) }}
                    || ' MWh unserved and costs ' || {{ in_words("shortfall_costs.incident_cost") }} || ' '
                    || weeks.currency_code || ' in lost GPU-hours, dearer energy and demand charge.'
            else
                'The next such week again leaves ' || {{ in_words("short_weeks.unserved_mwh", 1) }}
                || ' MWh unserved; what that costs is not known.'
        end as inaction,
        shortfall_costs.incident_cost as weekly_value,
        short_weeks.shortfall_mw as capacity_mw,
        kpis.availability_coverage_ratio as coverage_ratio,
        'select interval_started_at, effective_it_mw, committed_it_mw, binding_limit from marts.fct_supply_capacity'
        || ' where site_id = ' || {{ sql_literal("short_weeks.site_id") }}
        || ' and week = ' || {{ sql_literal("short_weeks.week") }}
        || ' and effective_it_mw < committed_it_mw order by interval_started_at' as evidence_sql,
        true as is_confidential,
        weeks.currency_code
    from short_weeks
    inner join weeks on short_weeks.week = weeks.week
    inner join {{ ref("kpi_site_weekly") }} as kpis
        on
            short_weeks.site_id = kpis.site_id
            and short_weeks.week = kpis.week
    left join shortfall_costs
        on
            short_weeks.site_id = shortfall_costs.site_id
            and short_weeks.week = shortfall_costs.week

),

-- energy_debt_within_lead_time
debts as (

    select
        weeks.week,
        coverage.site_id,
        min(coverage.local_month) as first_month,
        max(coverage.expected_debt_mw) as debt_mw,
        {{ exact_sum("coverage.energy_debt_mwh") }} * 168 / {{ exact_sum("coverage.month_hours") }} as weekly_mwh,
        any_value(weeks.monday_date) as monday_date,
        any_value(weeks.currency_code) as currency_code
    from weeks
    inner join {{ ref("fct_sourcing_coverage") }} as coverage
        on
            weeks.monday_date < coverage.local_month
            and coverage.local_month <= weeks.monday_date + to_months({{ lead_time_months }})
            and coverage.expected_debt_mw > 0
    group by weeks.week, coverage.site_id

),

energy_debt_within_lead_time as (

    select
        week,
        'energy_debt_within_lead_time' as rule_id,
        site_id as subject,
        'energy' as owner,
        site_id,
        site_id || ' is short of electricity from ' || strftime(first_month, '%B %Y') as title,
        'Secure ' || {{ in_words("debt_mw", 1) }} || ' MW for ' || site_id || ' by '
        || strftime(first_month, '%B %Y') || ', ' || date_diff('month', monday_date, first_month)
        || ' months from now, or commit that much less: new supply takes about {{ lead_time_months }} months.'
            as proposal,
        'Of the load expected ' || {{ in_words("weekly_mwh") }}
        || ' MWh a week cannot be drawn: the compute promised for it stands still. What the electricity costs is paid'
        || ' either way.' as inaction,
        cast(null as double) as weekly_value,
        debt_mw as capacity_mw,
        cast(null as double) as coverage_ratio,
        'select local_month, committed_mw, utilization_ratio, secured_mw, expected_debt_mw, energy_debt_mwh'
        || ' from marts.fct_sourcing_coverage where site_id = ' || {{ sql_literal("site_id") }}
        || ' and expected_debt_mw > 0 order by local_month' as evidence_sql,
        true as is_confidential,
        currency_code
    from debts

)

{{ proposals_of(
    ["commitment_outruns_supply", "energy_debt_within_lead_time"],
    {
        "kind": "'capacity'",
        "workload_id": "cast(null as varchar)",
        "contract_id": "cast(null as varchar)",
        "incident_id": "cast(null as varchar)",
        "weekly_saved_location_based_kg": "cast(null as double)",
    },
) }}
