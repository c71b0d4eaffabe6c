{{ config(materialized = "incremental", meta = {"day": "interval_started_at"}) }}

with

cloud_hours as (

    select
        workload_id,
        site_id,
        hour_started_at,
        allocated_gpu_hours,
        {{ exact_sum("on_demand_gpu_hours", over="(partition by site_id, hour_started_at)") }} as on_demand_gpu_hours
    from {{ ref("int_cloud_workload_hours") }}
    where {{ in_build_dates("hour_started_at") }}

),

-- Whose GPU-hours were held where; nobody holds those of idle GPUs and overhead. A cloud's hours are spread evenly over
-- their quarters.
work as (

    select
        workload_id,
        site_id,
        interval_started_at,
        allocated_gpu_hours,
        allocated_gpu_hours as avoidable_gpu_hours
    from {{ ref("int_workload_intervals") }}
    where
        allocated_gpu_hours > 0
        and {{ in_build_dates("utc_date") }}

    union all

    -- A commitment is paid for either way: only what is bought beyond it can be avoided.
    select
        workload_id,
        site_id,
        unnest(
            generate_series(hour_started_at, hour_started_at + interval 45 minutes, interval 15 minutes)
        ) as interval_started_at,
        allocated_gpu_hours / 4 as allocated_gpu_hours,
        least(allocated_gpu_hours, on_demand_gpu_hours) / 4 as avoidable_gpu_hours
    from cloud_hours
    where allocated_gpu_hours > 0

)

select
    work.workload_id,
    work.site_id,
    work.interval_started_at,
    {{ iso_week("work.interval_started_at at time zone organization.time_zone") }} as week,
    work.allocated_gpu_hours,
    work.avoidable_gpu_hours,
    intervals.marginal_cost_per_gpu_hour,
    intervals.avoidable_cost_per_gpu_hour,
    intervals.location_based_g_per_gpu_hour
from work
cross join {{ source("raw", "organization") }} as organization
left join {{ ref("calc_venue_intervals") }} as intervals
    on
        work.site_id = intervals.site_id
        and work.interval_started_at = intervals.interval_started_at
        and {{ in_build_dates("intervals.interval_started_at") }}
