with

demands as (

    select
        peaks.contract_id,
        peaks.site_id,
        peaks.interval_started_at,
        peaks.local_month,
        peaks.demand_kw,
        peaks.ratchet_floor_kw,
        prices.demand_charge_per_kw
    from {{ ref("int_demand_peaks") }} as peaks
    left join {{ ref("int_supply_prices") }} as prices
        on
            peaks.site_id = prices.site_id
            and peaks.interval_started_at = prices.interval_started_at

),

time_zones as (

    select distinct
        contract_id,
        time_zone
    from {{ source("raw", "grid_connections") }}

),

-- A month of which the beginning is not in the book has no peak that is known.
months as (

    select
        demands.contract_id,
        demands.site_id,
        demands.local_month,
        min(demands.interval_started_at) as first_started_at,
        max(demands.interval_started_at) as last_started_at,
        count(demands.demand_kw) = count(*)
        and count(demands.ratchet_floor_kw) = count(*)
        and min(demands.interval_started_at) at time zone any_value(time_zones.time_zone)
        <= cast(demands.local_month as timestamp) as is_known
    from demands
    inner join time_zones on demands.contract_id = time_zones.contract_id
    group by demands.contract_id, demands.site_id, demands.local_month

),

idle_intervals as (

    select
        site_id,
        interval_started_at
    from {{ ref("fct_energy_balance") }}
    where battery_charge_kwh = 0

),

-- What an incident took from the batteries is charged again after it, until they stand idle.
spans as (

    select
        incidents.incident_id,
        incidents.site_id,
        incidents.started_at,
        incidents.ended_at,
        coalesce(idle.interval_started_at, timestamptz 'infinity') as recharged_at
    from {{ ref("calc_incident_spans") }} as incidents
    asof left join idle_intervals as idle
        on
            incidents.site_id = idle.site_id
            and incidents.ended_at <= idle.interval_started_at

),

incident_months as (

    select
        spans.incident_id,
        months.contract_id,
        months.local_month,
        months.is_known as is_month_known,
        demands.interval_started_at >= spans.started_at
        and demands.interval_started_at < spans.recharged_at as is_affected,
        demands.demand_kw,
        case
            when not is_affected then demands.demand_kw
            when demands.interval_started_at < spans.ended_at then 0
            when demands.demand_kw >= {{ interval_kwh_to_kw("balance.battery_charge_kwh") }}
                then demands.demand_kw - {{ interval_kwh_to_kw("balance.battery_charge_kwh") }}
            when balance.battery_charge_kwh is not null then 0
        end as demand_without_kw,
        demands.ratchet_floor_kw,
        demands.demand_charge_per_kw
    from spans
    inner join months
        on
            spans.site_id = months.site_id
            and spans.recharged_at > months.first_started_at
            and spans.started_at <= months.last_started_at
    inner join demands
        on
            months.contract_id = demands.contract_id
            and months.local_month = demands.local_month
    left join {{ ref("fct_energy_balance") }} as balance
        on
            demands.site_id = balance.site_id
            and demands.interval_started_at = balance.interval_started_at

),

-- What the month's demand is with the incident and would be without it.
compared as (

    select
        incident_id,
        contract_id,
        local_month,
        any_value(is_month_known) and count(demand_without_kw) = count(*) as is_month_known,
        count(*) filter (where is_affected and demand_kw is null) = 0 as is_incident_known,
        max(demand_kw) as peak_kw,
        max(demand_without_kw) as peak_without_kw,
        max(ratchet_floor_kw) as ratchet_floor_kw,
        arg_max(demand_charge_per_kw, demand_kw) as peak_charge_per_kw,
        max(demand_charge_per_kw) as highest_charge_per_kw
    from incident_months
    group by incident_id, contract_id, local_month

),

charges as (

    select
        incident_id,
        case
            when highest_charge_per_kw = 0 then 0
            when is_incident_known and peak_kw <= peak_without_kw then 0
            when is_month_known
                then
                    (greatest(peak_kw, ratchet_floor_kw) - greatest(peak_without_kw, ratchet_floor_kw))
                    * peak_charge_per_kw
        end as demand_charge_cost
    from compared

)

select
    incident_id,
    round({{ sum_if_all_known("demand_charge_cost") }}, 6) as demand_charge_cost
from charges
group by incident_id
