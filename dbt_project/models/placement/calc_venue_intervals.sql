{{ config(materialized = "incremental", meta = {"day": "interval_started_at"}) }}

with

idle as (

    select
        site_id,
        interval_started_at,
        idle_gpu_hours
    from {{ ref("int_workload_intervals") }}
    where
        workload_id = 'idle'
        and {{ in_build_dates("utc_date") }}

),

cloud_idle as (

    select
        site_id,
        hour_started_at,
        idle_gpu_hours
    from {{ ref("int_cloud_workload_hours") }}
    where
        workload_id = 'idle'
        and {{ in_build_dates("hour_started_at", days_before=1) }}

),

cloud_quarters as (

    select
        *,
        unnest(
            generate_series(
                interval_started_at, interval_ended_at - interval 1 microsecond, interval 15 minutes
            )
        ) as quarter_started_at
    from {{ ref("fct_marginal_cost") }}
    where
        venue_kind = 'public_cloud'
        and {{ in_build_dates("utc_date") }}

)

select
    marginal.site_id,
    marginal.interval_started_at,
    marginal.week,
    marginal.marginal_source,
    marginal.marginal_cost_per_gpu_hour,
    marginal.marginal_cost_per_gpu_hour - marginal.demand_charge_cost_per_gpu_hour as avoidable_cost_per_gpu_hour,
    marginal.marginal_energy_cost_per_gpu_hour + marginal.network_and_levies_cost_per_gpu_hour
        as energy_and_network_cost_per_gpu_hour,
    marginal.marginal_location_based_g_per_gpu_hour as location_based_g_per_gpu_hour,
    marginal.is_incremental_power_measured,
    -- Free GPUs that there is no power for are none to move to.
    case when marginal.marginal_source = 'constrained' then 0 else idle.idle_gpu_hours end as spare_gpu_hours,
    supply.availability_ratio
from {{ ref("fct_marginal_cost") }} as marginal
left join {{ ref("fct_supply_capacity") }} as supply
    on
        marginal.site_id = supply.site_id
        and marginal.interval_started_at = supply.interval_started_at
        and {{ in_build_dates("supply.utc_date") }}
left join idle
    on
        marginal.site_id = idle.site_id
        and marginal.interval_started_at = idle.interval_started_at
where
    marginal.venue_kind <> 'public_cloud'
    and {{ in_build_dates("marginal.utc_date") }}

union all

-- What a cloud has left to sell is not known from its bill; what is paid for and unused is.
select
    quarters.site_id,
    quarters.quarter_started_at as interval_started_at,
    quarters.week,
    quarters.marginal_source,
    quarters.marginal_cost_per_gpu_hour,
    quarters.marginal_cost_per_gpu_hour as avoidable_cost_per_gpu_hour,
    cast(null as double) as energy_and_network_cost_per_gpu_hour,
    cast(null as double) as location_based_g_per_gpu_hour,
    cast(null as boolean) as is_incremental_power_measured,
    coalesce(cloud_idle.idle_gpu_hours / 4, 0) as spare_gpu_hours,
    cast(null as double) as availability_ratio
from cloud_quarters as quarters
left join cloud_idle
    on
        quarters.site_id = cloud_idle.site_id
        and date_trunc('hour', quarters.quarter_started_at) = cloud_idle.hour_started_at
