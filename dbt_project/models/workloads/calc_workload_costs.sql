{{ config(materialized = "view") }}

-- Losses between the grid and the facility meter are borne in proportion, so that all rows add up to the site's.
select
    work.site_id,
    work.workload_id,
    work.interval_started_at,
    work.utc_date,
    work.local_date,
    intervals.week,
    work.allocated_gpu_hours,
    work.measured_gpu_hours,
    work.used_gpu_hours,
    work.idle_gpu_hours,
    work.unknown_gpu_hours,
    work.energy_kwh,
    work.is_pue_assumed,
    round(work.energy_kwh * balance.local_kwh / nullif(balance.consumption_kwh, 0), 6) as local_kwh,
    round(work.energy_kwh * balance.contracted_kwh / nullif(balance.consumption_kwh, 0), 6) as contracted_kwh,
    round(work.energy_kwh * balance.grid_uncontracted_kwh / nullif(balance.consumption_kwh, 0), 6)
        as grid_uncontracted_kwh,
    round(work.energy_kwh * costs.market_valued_energy_cost / nullif(work.site_kwh, 0), 6)
        as market_valued_energy_cost,
    round(work.energy_kwh * costs.contract_effect_cost / nullif(work.site_kwh, 0), 6) as contract_effect_cost,
    round(work.energy_kwh * carbon.location_based_kg / nullif(work.site_kwh, 0), 6) as location_based_kg,
    round(work.energy_kwh * carbon.market_based_kg / nullif(work.site_kwh, 0), 6) as market_based_kg,
    round(work.energy_kwh * carbon.hourly_matched_kg / nullif(work.site_kwh, 0), 6) as hourly_matched_kg
from {{ ref("int_workload_intervals") }} as work
inner join {{ ref("int_site_intervals") }} as intervals
    on
        work.site_id = intervals.site_id
        and work.utc_date = intervals.utc_date
        and work.interval_started_at = intervals.interval_started_at
left join {{ ref("fct_energy_balance") }} as balance
    on
        work.site_id = balance.site_id
        and work.utc_date = balance.utc_date
        and work.interval_started_at = balance.interval_started_at
left join {{ ref("calc_energy_costs") }} as costs
    on
        work.site_id = costs.site_id
        and work.utc_date = costs.utc_date
        and work.interval_started_at = costs.interval_started_at
left join {{ ref("fct_carbon") }} as carbon
    on
        work.site_id = carbon.site_id
        and work.utc_date = carbon.utc_date
        and work.interval_started_at = carbon.interval_started_at
