{# Weeks a reserve is judged by, and by how much it is moved. #}
{% set reserve_weeks = 8 %}
{% set reserve_step_ratio = 0.05 %}
{# Stock is told no finer than this share of capacity. #}
{% set stock_tolerance_ratio = 0.005 %}
{# A peak is about to be set where last week's rise, going on for a week, lifts billed demand by this share. #}
{% set peak_rise_ratio = 0.01 %}
{% set peak_weeks = 4 %}
{# A cause recurs that came this often in so many weeks, last in this one. #}
{% set recurring_incidents = 3 %}
{% set recurring_weeks = 12 %}

{# What is told elsewhere in the same week, so that no proposal counts what another does: peaks of demand are. #}
{% set cost_but_demand = "incidents.incident_cost - coalesce(incidents.demand_charge_cost, 0)" %}
{% set is_told_of_commitment = "(contains(incidents.signals, 'supply_shortfall') and incidents.week = weeks.week)" %}
{% set is_told_of_reserve = "(contains(incidents.signals, 'storage_depleted') and lowered.site_id is not null"
    ~ " and incidents.started_at >= weeks.ended_at - to_days(" ~ 7 * reserve_weeks ~ "))" %}

with

weeks as (

    select *
    from {{ ref("calc_weeks") }}

),

site_weeks as (

    select
        site_id,
        week,
        coverage_ratio
    from {{ ref("kpi_site_weekly") }}

),

-- battery_reserve
reserves as (

    select
        weeks.week,
        batteries.battery_id,
        batteries.site_id,
        any_value(weeks.started_at) as week_started_at,
        any_value(weeks.ended_at) as ended_at,
        any_value(weeks.currency_code) as currency_code,
        arg_max(batteries.reserve_ratio, batteries.interval_started_at) as reserve_ratio,
        arg_max(batteries.capacity_kwh, batteries.interval_started_at) as capacity_kwh,
        arg_max(batteries.discharge_efficiency_ratio, batteries.interval_started_at) as discharge_efficiency_ratio,
        min(batteries.opening_stored_kwh / batteries.capacity_kwh) as lowest_ratio,
        min(batteries.opening_stored_kwh / batteries.capacity_kwh - batteries.reserve_ratio) as lowest_above_ratio,
        count(*) filter (where batteries.is_depleted) / 4 as depleted_hours,
        count(batteries.opening_stored_kwh) / count(*) as coverage_ratio
    from weeks
    inner join {{ ref("int_battery_intervals") }} as batteries
        on
            batteries.interval_started_at >= weeks.ended_at - to_days({{ 7 * reserve_weeks }})
            and weeks.ended_at > batteries.interval_started_at
    group by weeks.week, batteries.battery_id, batteries.site_id

),

-- What a shortage of supply cost is told of the commitment it fell short of, in the week of it.
depletion_costs as (

    select
        weeks.week,
        incidents.site_id,
        {{ sum_if_all_known(
            cost_but_demand, condition="not " ~ is_told_of_commitment, empty=0
        ) }} / {{ reserve_weeks }} as weekly_cost
    from weeks
    inner join {{ ref("fct_energy_constraint_incidents") }} as incidents
        on
            contains(incidents.signals, 'storage_depleted')
            and incidents.started_at >= weeks.ended_at - to_days({{ 7 * reserve_weeks }})
            and weeks.ended_at > incidents.started_at
    group by weeks.week, incidents.site_id

),

-- Power that a step of reserve gives for an hour.
reserve_moves as (

    select
        reserves.*,
        depletion_costs.weekly_cost,
        round(
            {{ kw_to_mw("reserves.capacity_kwh * reserves.discharge_efficiency_ratio") }} * {{ reserve_step_ratio }}, 9
        )
            as step_mw,
        case
            when reserves.lowest_above_ratio < -{{ stock_tolerance_ratio }} then 'raise'
            when reserves.depleted_hours > 0 then 'lower'
        end as move,
        count(*) filter (where move = 'lower') over (partition by reserves.week, reserves.site_id) as lower_count
    from reserves
    left join depletion_costs
        on
            reserves.week = depletion_costs.week
            and reserves.site_id = depletion_costs.site_id

),

battery_reserve as (

    select
        week,
        'battery_reserve_' || move as rule_id,
        battery_id as subject,
        'operations' as owner,
        site_id,
        cast(null as varchar) as contract_id,
        cast(null as varchar) as incident_id,
        case move
            when 'raise' then battery_id || ' was drawn below its reserve'
            else battery_id || ' stood empty above a reserve nobody drew on'
        end as title,
        case move
            when 'raise'
                then
                    'Raise the reserve of ' || battery_id || ' from ' || {{ in_percent("reserve_ratio") }} || ' to '
                    || {{ in_percent("reserve_ratio + " ~ reserve_step_ratio) }} || ': it fell to '
                    || {{ in_percent("lowest_ratio") }} || ' within {{ reserve_weeks }} weeks.'
            else
                'Lower the reserve of ' || battery_id || ' from ' || {{ in_percent("reserve_ratio") }} || ' to '
                || {{ in_percent("reserve_ratio - " ~ reserve_step_ratio) }} || ': in {{ reserve_weeks }} weeks it had'
                || ' nothing left to give for ' || {{ in_words("depleted_hours", 1) }}
                || ' hours, while the reserve was never touched.'
        end as proposal,
        case move
            when 'raise' then 'The next outage may find less stored than the reserve is meant to hold.'
            else
                'When it next runs down, ' || {{ in_words("step_mw", 1) }}
                || ' MW for an hour again lie idle in the reserve.'
        end as inaction,
        -- Batteries of a site share what their running empty cost.
        case when move = 'lower' then weekly_cost / lower_count end as weekly_value,
        step_mw as capacity_mw,
        coverage_ratio,
        'select utc_date, min(opening_stored_kwh) as lowest_stored_kwh, max(capacity_kwh) as capacity_kwh'
        || ' from marts.fct_battery_ledger where battery_id = ' || {{ sql_literal("battery_id") }}
        || ' and interval_started_at >= '
        || {{ sql_literal("ended_at - to_days(" ~ 7 * reserve_weeks ~ ")") }}
        || ' and interval_started_at < ' || {{ sql_literal("ended_at") }}
        || ' group by utc_date order by lowest_stored_kwh, utc_date' as evidence_sql,
        true as is_confidential,
        currency_code
    from reserve_moves
    where
        move = 'raise'
        or (move = 'lower' and reserve_ratio >= {{ reserve_step_ratio }})

),

-- demand_peak
weekly_peaks as (

    select
        weeks.week,
        peaks.contract_id,
        peaks.site_id,
        any_value(weeks.monday_date) as monday_date,
        any_value(weeks.currency_code) as currency_code,
        max(peaks.demand_kw) as peak_kw,
        arg_max(peaks.ratchet_floor_kw, peaks.interval_started_at) as ratchet_floor_kw
    from weeks
    inner join {{ ref("int_demand_peaks") }} as peaks
        on
            weeks.started_at <= peaks.interval_started_at
            and weeks.ended_at > peaks.interval_started_at
    group by weeks.week, peaks.contract_id, peaks.site_id

),

-- What a kW of billed demand came to in the month the week begins in.
demand_charges as (

    select
        contract_id,
        local_month,
        {{ sum_if_all_known("amount") }} / nullif({{ sum_if_all_known("quantity") }}, 0) as monthly_cost_per_kw
    from {{ ref("fct_contract_settlements") }}
    where line = 'demand'
    group by contract_id, local_month

),

projected_peaks as (

    select
        weekly_peaks.*,
        demand_charges.monthly_cost_per_kw,
        weekly_peaks.peak_kw + (weekly_peaks.peak_kw - lag(weekly_peaks.peak_kw) over by_week) as projected_kw,
        greatest(max(weekly_peaks.peak_kw) over last_weeks, coalesce(weekly_peaks.ratchet_floor_kw, 0)) as billed_kw
    from weekly_peaks
    left join demand_charges
        on
            weekly_peaks.contract_id = demand_charges.contract_id
            and date_trunc('month', weekly_peaks.monday_date) = demand_charges.local_month
    window
        by_week as (partition by weekly_peaks.contract_id order by weekly_peaks.monday_date),
        last_weeks as (
            partition by weekly_peaks.contract_id
            order by weekly_peaks.monday_date
            rows between {{ peak_weeks - 1 }} preceding and current row
        )

),

valued_peaks as (

    select
        *,
        (projected_kw - billed_kw) * monthly_cost_per_kw * 12 / 52 as weekly_cost
    from projected_peaks
    where projected_kw > billed_kw * (1 + {{ peak_rise_ratio }})

),

demand_peak as (

    select
        valued_peaks.week,
        'demand_peak' as rule_id,
        valued_peaks.contract_id as subject,
        'energy' as owner,
        valued_peaks.site_id,
        valued_peaks.contract_id,
        cast(null as varchar) as incident_id,
        valued_peaks.site_id || ' is about to set a new demand peak' as title,
        'Keep the import of ' || valued_peaks.site_id || ' below ' || {{ in_words("valued_peaks.billed_kw") }}
        || ' kW by moving tolerant work out of its peak hours: at last week''s rise it reaches '
        || {{ in_words("valued_peaks.projected_kw") }} || ' kW.' as proposal,
        coalesce(
            'Each month billed at the new peak costs '
            || {{ in_words("valued_peaks.weekly_cost * 52 / 12") }} || ' ' || valued_peaks.currency_code || ' more.',
            'The new peak is billed for the whole month; its price is not known.'
        ) as inaction,
        valued_peaks.weekly_cost as weekly_value,
        {{ kw_to_mw("valued_peaks.projected_kw - valued_peaks.billed_kw") }} as capacity_mw,
        site_weeks.coverage_ratio,
        'select interval_started_at, grid_import_kwh * 4 as grid_import_kw from marts.fct_energy_balance'
        || ' where site_id = ' || {{ sql_literal("valued_peaks.site_id") }}
        || ' and week = ' || {{ sql_literal("valued_peaks.week") }}
        || ' and grid_import_kwh is not null order by grid_import_kwh desc, interval_started_at limit 20'
            as evidence_sql,
        true as is_confidential,
        valued_peaks.currency_code
    from valued_peaks
    left join site_weeks
        on
            valued_peaks.site_id = site_weeks.site_id
            and valued_peaks.week = site_weeks.week

),

-- recurring_cause
lowered as (

    select distinct
        week,
        site_id
    from battery_reserve
    where rule_id = 'battery_reserve_lower'

),

recurring as (

    select
        weeks.week,
        incidents.site_id,
        incidents.primary_cause,
        any_value(weeks.ended_at) as ended_at,
        any_value(weeks.currency_code) as currency_code,
        count(*) as incident_count,
        arg_max(incidents.incident_id, incidents.started_at) as incident_id,
        sum(incidents.duration_minutes) / 60 as hours,
        max(incidents.greatest_shortfall_mw) as shortfall_mw,
        {{ sum_if_all_known("incidents.incident_cost") }} as incident_cost,
        {{ sum_if_all_known(
            cost_but_demand, condition="not (" ~ is_told_of_commitment ~ " or " ~ is_told_of_reserve ~ ")",
            empty=0
        ) }} as own_incident_cost
    from weeks
    inner join {{ ref("fct_energy_constraint_incidents") }} as incidents
        on
            incidents.started_at >= weeks.ended_at - to_days({{ 7 * recurring_weeks }})
            and weeks.ended_at > incidents.started_at
    left join lowered
        on
            weeks.week = lowered.week
            and incidents.site_id = lowered.site_id
    group by weeks.week, incidents.site_id, incidents.primary_cause
    having
        count(*) >= {{ recurring_incidents }}
        and count(*) filter (where incidents.week = weeks.week) > 0

),

recurring_cause as (

    select
        recurring.week,
        'recurring_cause' as rule_id,
        recurring.site_id || ':' || recurring.primary_cause as subject,
        'infra' as owner,
        recurring.site_id,
        cast(null as varchar) as contract_id,
        recurring.incident_id,
        replace(recurring.primary_cause, '_', ' ') || ' came again at ' || recurring.site_id as title,
        'Find and mend what is behind ' || recurring.incident_count || ' incidents of '
        || replace(recurring.primary_cause, '_', ' ')
        || ' at '
        || recurring.site_id
        || ' in {{ recurring_weeks }} weeks, '
        || {{ in_words("recurring.hours", 1) }} || ' hours in all.' as proposal,
        coalesce(
            'It has cost ' || {{ in_words("recurring.incident_cost") }} || ' ' || recurring.currency_code
            || ' so far, and comes again about every '
            || {{ in_words(recurring_weeks ~ " * 7.0 / recurring.incident_count") }} || ' days.',
            'It comes again about every ' || {{ in_words(recurring_weeks ~ " * 7.0 / recurring.incident_count") }}
            || ' days; what it costs is not known.'
        ) as inaction,
        recurring.own_incident_cost / {{ recurring_weeks }} as weekly_value,
        recurring.shortfall_mw as capacity_mw,
        site_weeks.coverage_ratio,
        'select incident_id, started_at, duration_minutes, evidence, incident_cost, currency_code'
        || ' from marts.fct_energy_constraint_incidents where site_id = ' || {{ sql_literal("recurring.site_id") }}
        || ' and primary_cause = ' || {{ sql_literal("recurring.primary_cause") }}
        || ' and started_at >= '
        || {{ sql_literal("recurring.ended_at - to_days(" ~ 7 * recurring_weeks ~ ")") }}
        || ' and started_at < ' || {{ sql_literal("recurring.ended_at") }} || ' order by started_at' as evidence_sql,
        true as is_confidential,
        recurring.currency_code
    from recurring
    left join site_weeks
        on
            recurring.site_id = site_weeks.site_id
            and recurring.week = site_weeks.week

)

{{ proposals_of(
    ["battery_reserve", "demand_peak", "recurring_cause"],
    {
        "kind": "'grid_risk'",
        "workload_id": "cast(null as varchar)",
        "weekly_saved_location_based_kg": "cast(null as double)",
    },
) }}
