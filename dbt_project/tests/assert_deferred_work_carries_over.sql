-- Returns the days whose outstanding GPU-hours are not those of the day before plus what was put off, less what was
-- caught up and lost, or are negative. Tolerance 1e-5: outstanding GPU-hours are carried over with six decimals.
with

carried as (

    select
        *,
        coalesce(
            lag(outstanding_gpu_hours) over (partition by workload_id, site_id order by local_date), 0
        ) as previous_outstanding_gpu_hours
    from {{ ref("fct_deferrals") }}

)

select
    workload_id,
    site_id,
    local_date
from carried
where
    outstanding_gpu_hours < -1e-5
    or abs(
        previous_outstanding_gpu_hours + deferred_gpu_hours - caught_up_gpu_hours - lapsed_gpu_hours
        - outstanding_gpu_hours
    ) > 1e-5
