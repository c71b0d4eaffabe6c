{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{# A ratchet looks back at most so many months, which the reference data makes sure of; what is expected of the running
   month likewise. #}
{% set months_before = 12 %}
{% set days_before = 400 %}

{% set is_in_ratchet = "versions.local_month <= earlier.local_month + to_months(versions.ratchet_months)" %}

with

terms as (

    select
        *,
        min(valid_from_at) over (partition by contract_id) as contract_started_at,
        max(coalesce(valid_to_at, timestamptz 'infinity')) over (partition by contract_id) as contract_ended_at
    from {{ source("raw", "grid_connections") }}

),

intervals as (

    select
        terms.contract_id,
        terms.site_id,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        {{ local_month_of("intervals.interval_started_at", "terms.time_zone") }} as local_month,
        {{ local_month_of("terms.contract_started_at", "terms.time_zone") }} as first_local_month,
        terms.time_zone,
        terms.contract_started_at,
        terms.contract_ended_at,
        terms.valid_from_at as terms_valid_from_at,
        terms.demand_charge_per_kw,
        terms.ratchet_ratio,
        terms.ratchet_months,
        {{ period_start("intervals.interval_started_at", "terms.time_zone", "terms.demand_period_minutes") }}
            as period_started_at,
        roles.grid_import_kwh
    from {{ ref("int_site_intervals") }} as intervals
    inner join terms
        on
            intervals.site_id = terms.site_id
            and {{ is_valid_at("terms", "intervals.interval_started_at") }}
    left join {{ ref("int_meter_roles_pivoted") }} as roles
        on
            intervals.site_id = roles.site_id
            and intervals.interval_started_at = roles.interval_started_at
    where {{ in_build_dates("intervals.utc_date", days_before=days_before) }}

),

demands as (

    select
        *,
        round(
            {{ interval_kwh_to_kw(sum_if_all_known("grid_import_kwh", over="demand_period")) }}
            / count(*) over demand_period, 6
        ) as demand_kw,
        count(*) over demand_period / 4 as demand_period_hours
    from intervals
    window demand_period as (partition by contract_id, period_started_at)

),

months as (

    select
        contract_id,
        local_month,
        max(demand_kw) as peak_kw,
        count(demand_kw) = count(*) as is_known,
        count(demand_kw) as known_interval_count,
        greatest(cast(local_month as timestamp), any_value(contract_started_at at time zone time_zone)) as first_at,
        least(
            cast(local_month + interval 1 month as timestamp), any_value(contract_ended_at at time zone time_zone)
        ) as end_at,
        {{ expected_intervals("first_at", "end_at", "any_value(time_zone)") }} as interval_count,
        known_interval_count = interval_count as is_whole,
        (max(interval_started_at) + interval 15 minutes) at time zone any_value(time_zone) >= end_at as is_over
    from demands
    group by contract_id, local_month

),

versions as (

    select distinct
        contract_id,
        local_month,
        first_local_month,
        terms_valid_from_at,
        ratchet_ratio,
        ratchet_months
    from demands

),

-- Months before the contract do not count; one of which a reading is missing leaves the floor unknown.
floors as (

    select
        versions.contract_id,
        versions.local_month,
        versions.terms_valid_from_at,
        list(earlier.peak_kw) filter (where earlier.is_whole) as earlier_months_kw,
        case
            when versions.ratchet_ratio is null then 0
            when
                count(*) filter (where earlier.is_whole and {{ is_in_ratchet }})
                = least(versions.ratchet_months, date_diff('month', versions.first_local_month, versions.local_month))
                then
                    round(
                        versions.ratchet_ratio * coalesce(max(earlier.peak_kw) filter (where {{ is_in_ratchet }}), 0), 6
                    )
        end as ratchet_floor_kw
    from versions
    left join months as earlier
        on
            versions.contract_id = earlier.contract_id
            and versions.local_month > earlier.local_month
            and versions.local_month <= earlier.local_month + to_months({{ months_before }})
    group by
        versions.contract_id,
        versions.local_month,
        versions.first_local_month,
        versions.terms_valid_from_at,
        versions.ratchet_ratio,
        versions.ratchet_months

),

compared as (

    select
        demands.*,
        floors.ratchet_floor_kw,
        floors.earlier_months_kw,
        months.peak_kw as month_peak_kw,
        months.is_known as is_month_known,
        months.is_whole as is_month_whole,
        months.is_over as is_month_over,
        months.interval_count as month_interval_count,
        coalesce(max(demands.demand_kw) over earlier_periods, 0) as earlier_peak_kw,
        count(demands.demand_kw) over earlier_periods
        = date_diff('minute', months.first_at at time zone demands.time_zone, demands.period_started_at) / 15
            as is_month_so_far_known,
        case when earlier_peak_kw > floors.ratchet_floor_kw then earlier_peak_kw end as earlier_billed_peak_kw,
        demands.demand_kw > earlier_peak_kw and demands.demand_kw > floors.ratchet_floor_kw as raises_billed_demand,
        coalesce(
            demands.period_started_at
            = min(case when demands.demand_kw = months.peak_kw then demands.period_started_at end) over (
                partition by demands.contract_id, demands.local_month
            ), false
        ) as is_month_peak
    from demands
    inner join months
        on
            demands.contract_id = months.contract_id
            and demands.local_month = months.local_month
    inner join floors
        on
            demands.contract_id = floors.contract_id
            and demands.local_month = floors.local_month
            and demands.terms_valid_from_at is not distinct from floors.terms_valid_from_at
    window
        earlier_periods as (
            partition by demands.contract_id, demands.local_month
            order by demands.period_started_at
            groups between unbounded preceding and 1 preceding
        )

),

-- What is in force at the peak holds for the whole month.
at_peak as (

    select
        contract_id,
        local_month,
        any_value(terms_valid_from_at) as terms_valid_from_at,
        any_value(demand_charge_per_kw) as demand_charge_per_kw,
        any_value(ratchet_floor_kw) as ratchet_floor_kw,
        count(*) as interval_count
    from compared
    where
        is_month_peak
        and is_month_known
    group by contract_id, local_month

)

select
    compared.contract_id,
    compared.site_id,
    compared.interval_started_at,
    compared.interval_ended_at,
    compared.utc_date,
    compared.local_month,
    compared.demand_kw,
    compared.earlier_peak_kw,
    compared.ratchet_floor_kw,
    compared.demand_kw > compared.earlier_peak_kw as is_new_monthly_peak,
    compared.demand_period_hours,
    case
        -- What was drawn more before, or is billed anyway, leaves nothing to pay, nor does what was drawn more later.
        when not compared.raises_billed_demand then 0
        when compared.is_month_over and compared.demand_kw < compared.month_peak_kw then 0
        when compared.raises_billed_demand and compared.is_month_whole then 1
        when compared.raises_billed_demand and not compared.is_month_over and compared.is_month_so_far_known
            then
                len(
                    list_filter(
                        compared.earlier_months_kw,
                        lambda month_kw: month_kw <= compared.demand_kw -- noqa: RF02
                        and coalesce(month_kw > compared.earlier_billed_peak_kw, true) -- noqa: RF02
                    )
                ) / len(compared.earlier_months_kw)
    end as peak_charge_ratio,
    compared.is_month_peak and compared.is_month_known as is_month_peak,
    coalesce(at_peak.terms_valid_from_at, compared.terms_valid_from_at) as billed_terms_valid_from_at,
    at_peak.demand_charge_per_kw as billed_demand_charge_per_kw,
    case
        when compared.is_month_peak then compared.month_peak_kw / at_peak.interval_count
        when at_peak.ratchet_floor_kw <= compared.month_peak_kw then 0
        else
            (at_peak.ratchet_floor_kw - compared.month_peak_kw)
            / (compared.month_interval_count - at_peak.interval_count)
    end as billed_kw
from compared
left join at_peak
    on
        compared.contract_id = at_peak.contract_id
        and compared.local_month = at_peak.local_month
where {{ in_build_dates("compared.utc_date") }}
