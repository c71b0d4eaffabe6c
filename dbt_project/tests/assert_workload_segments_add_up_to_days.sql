-- Returns the workloads and sites whose weeks hold other GPU-hours, energy or lost GPU-hours than their days.
-- Tolerance 1e-3: each row of either table is rounded to six decimals.
with

days as (

    select
        days.workload_id,
        days.site_id,
        {{ exact_sum("days.allocated_gpu_hours") }} as allocated_gpu_hours,
        {{ sum_if_all_known("days.lost_gpu_hours") }} as lost_gpu_hours,
        {{ exact_sum("days.energy_kwh") }} as energy_kwh
    from {{ ref("fct_workload_energy") }} as days
    inner join {{ source("raw", "workloads") }} as workloads on days.workload_id = workloads.workload_id
    group by days.workload_id, days.site_id

),

weeks as (

    select
        workload_id,
        site_id,
        {{ exact_sum("allocated_gpu_hours") }} as allocated_gpu_hours,
        {{ sum_if_all_known("lost_gpu_hours") }} as lost_gpu_hours,
        {{ exact_sum("energy_kwh") }} as energy_kwh
    from {{ ref("fct_workload_segments") }}
    group by workload_id, site_id

)

select
    coalesce(days.workload_id, weeks.workload_id) as workload_id,
    coalesce(days.site_id, weeks.site_id) as site_id
from days
full join weeks
    on
        days.workload_id = weeks.workload_id
        and days.site_id = weeks.site_id
where
    days.site_id is null
    or weeks.site_id is null
    or abs(days.allocated_gpu_hours - weeks.allocated_gpu_hours) > 1e-3
    or abs(days.lost_gpu_hours - weeks.lost_gpu_hours) > 1e-3
    or abs(days.energy_kwh - weeks.energy_kwh) > 1e-3
