{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

{{ held_job_ctes() }},

{{ job_slice_ctes("held_jobs") }}

select
    site_id,
    workload_id,
    slice_started_at as interval_started_at,
    cast(slice_started_at as date) as utc_date,
    round({{ exact_sum("held_s * gpu_count") }}, 6) as allocated_gpu_s
from job_slices
group by site_id, workload_id, slice_started_at
