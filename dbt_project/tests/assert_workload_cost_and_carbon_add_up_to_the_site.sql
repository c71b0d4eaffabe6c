-- Returns rows (test failure) for site days whose workloads do not bear all of the site's cost and CO2e, though every
-- interval of the day had all readings. Each of the terms, up to a thousand a day, is rounded to 1e-6.
with

workloads as (

    select
        site_id,
        local_date,
        sum(market_valued_energy_cost) as market_valued_energy_cost,
        sum(location_based_kg) as location_based_kg
    from {{ ref("fct_workload_energy") }}
    where {{ in_build_dates("local_date", days_before=1) }}
    group by site_id, local_date
    having bool_and(coverage_ratio = 1)

),

sites as (

    select
        carbon.site_id,
        carbon.local_date,
        sum(costs.market_valued_energy_cost) as market_valued_energy_cost,
        sum(carbon.location_based_kg) as location_based_kg
    from {{ ref("fct_carbon") }} as carbon
    inner join {{ ref("calc_energy_costs") }} as costs
        on
            carbon.site_id = costs.site_id
            and carbon.utc_date = costs.utc_date
            and carbon.interval_started_at = costs.interval_started_at
    where
        {{ in_build_dates("carbon.local_date", days_before=1) }}
        and {{ in_build_dates("carbon.utc_date", days_before=3) }}
    group by carbon.site_id, carbon.local_date
    having
        count(costs.market_valued_energy_cost) = count(*)
        and count(carbon.location_based_kg) = count(*)

)

select
    workloads.site_id,
    workloads.local_date,
    workloads.market_valued_energy_cost,
    sites.market_valued_energy_cost as site_energy_cost,
    workloads.location_based_kg,
    sites.location_based_kg as site_location_based_kg
from workloads
inner join sites
    on
        workloads.site_id = sites.site_id
        and workloads.local_date = sites.local_date
where
    abs(workloads.market_valued_energy_cost - sites.market_valued_energy_cost) > 1e-3
    or abs(workloads.location_based_kg - sites.location_based_kg) > 1e-3
