{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

-- Less than a minute is how the clock was read, not a suspension.
suspended as (

    select
        load_id,
        source_row,
        gpu_count,
        run_s,
        started_at as interval_started_at,
        held_until_at as interval_ended_at
    from {{ ref("stg_jobs") }}
    where
        gpu_count > 0
        and epoch(held_until_at - started_at) - run_s > 60
        and {{ in_build_dates("held_until_at") }}

),

suspended_slices as ({{ cut_to_intervals("suspended") }}),

suspended_nodes as (

    select
        job_nodes.load_id,
        job_nodes.source_row,
        job_nodes.hostname,
        suspended.gpu_count / count(*) over (partition by job_nodes.load_id, job_nodes.source_row) as gpus_per_node,
        suspended.interval_started_at,
        suspended.interval_ended_at
    from {{ ref("stg_job_nodes") }} as job_nodes
    inner join suspended
        on
            job_nodes.load_id = suspended.load_id
            and job_nodes.source_row = suspended.source_row

),

hosts as (

    select
        hostname,
        min(interval_started_at) as first_started_at,
        max(interval_ended_at) as last_ended_at
    from suspended_nodes
    group by hostname

),

-- The jobs beside them that ran through: their GPUs were not free for anyone else.
neighbour_nodes as (

    select
        job_nodes.load_id,
        job_nodes.source_row,
        job_nodes.hostname,
        hosts.first_started_at,
        hosts.last_ended_at
    from {{ ref("stg_job_nodes") }} as job_nodes
    inner join hosts on job_nodes.hostname = hosts.hostname

),

neighbours as (

    select
        neighbour_nodes.hostname,
        jobs.gpu_count / jobs.node_count as gpus_per_node,
        greatest(jobs.started_at, neighbour_nodes.first_started_at) as interval_started_at,
        least(jobs.held_until_at, neighbour_nodes.last_ended_at) as interval_ended_at
    from neighbour_nodes
    inner join {{ ref("stg_jobs") }} as jobs
        on
            neighbour_nodes.load_id = jobs.load_id
            and neighbour_nodes.source_row = jobs.source_row
            and neighbour_nodes.first_started_at < jobs.held_until_at
            and neighbour_nodes.last_ended_at > jobs.started_at
    where
        jobs.gpu_count > 0
        and epoch(jobs.held_until_at - jobs.started_at) - jobs.run_s <= 60
        and jobs.held_until_at > jobs.started_at

),

neighbour_slices as ({{ cut_to_intervals("neighbours") }}),

taken as (

    select
        hostname,
        slice_started_at,
        {{ exact_sum("gpus_per_node * overlap_s") }} as taken_gpu_s
    from neighbour_slices
    group by hostname, slice_started_at

),

-- What its neighbours left of an interval on all of the job's nodes, in seconds of all its GPUs.
free as (

    select
        slices.load_id,
        slices.source_row,
        slices.slice_started_at,
        least(
            any_value(slices.overlap_s),
            min(
                greatest(nodes.gpu_count * 900 - coalesce(taken.taken_gpu_s, 0), 0) / suspended_nodes.gpus_per_node
            )
        ) as free_s
    from suspended_slices as slices
    inner join suspended_nodes
        on
            slices.load_id = suspended_nodes.load_id
            and slices.source_row = suspended_nodes.source_row
    inner join {{ source("raw", "nodes") }} as nodes on suspended_nodes.hostname = nodes.hostname
    left join taken
        on
            suspended_nodes.hostname = taken.hostname
            and slices.slice_started_at = taken.slice_started_at
    group by slices.load_id, slices.source_row, slices.slice_started_at

),

placed as (

    select
        slices.load_id,
        slices.source_row,
        slices.slice_started_at,
        slices.run_s,
        slices.overlap_s,
        free.free_s,
        {{ exact_sum("free.free_s", over="of_job", decimals=6) }} as all_free_s,
        {{ exact_sum("slices.overlap_s", over="of_job", decimals=6) }} as all_overlap_s
    from suspended_slices as slices
    left join free
        on
            slices.load_id = free.load_id
            and slices.source_row = free.source_row
            and slices.slice_started_at = free.slice_started_at
    window of_job as (partition by slices.load_id, slices.source_row)

)

select
    load_id,
    source_row,
    slice_started_at as interval_started_at,
    cast(slice_started_at as date) as utc_date,
    round(
        run_s
        * case
            when all_free_s >= run_s and all_free_s > 0 then free_s / all_free_s
            else overlap_s / all_overlap_s
        end, 6
    ) as held_s
from placed
where {{ in_build_dates("slice_started_at") }}
