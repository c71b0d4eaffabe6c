{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

{{ held_job_ctes() }},

{{ job_slice_ctes("held_jobs") }},

allocations as (

    select
        site_id,
        workload_id,
        slice_started_at as interval_started_at,
        held_s * gpu_count as allocated_gpu_s
    from job_slices

    union all

    select
        site_id,
        workload_id,
        interval_started_at,
        allocated_gpu_s
    from {{ ref("int_pod_allocations") }}
    where {{ in_build_dates("utc_date") }}

)

select
    site_id,
    workload_id,
    interval_started_at,
    cast(interval_started_at as date) as utc_date,
    round({{ exact_sum("allocated_gpu_s") }}, 6) as allocated_gpu_s
from allocations
group by site_id, workload_id, interval_started_at
