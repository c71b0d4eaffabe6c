{#
    CTEs that cut the jobs that held GPUs at the borders of the book's grain: the last, `job_slices`, has one row per
    job and 15-minute interval, as `slice_started_at`, with the seconds `overlap_s` for which it held its `gpu_count`
    GPUs. A job that still runs holds them up to the end of the book. For incremental models: only the days a run
    rebuilds are cut. A macro, as one row per job and interval is too many to keep.
#}
{% macro job_slice_ctes() -%}
book_ends as (

    select max(interval_ended_at) as ended_at
    from {{ ref("int_site_intervals") }}

),

started_jobs as (

    select
        jobs.load_id,
        jobs.source_row,
        jobs.site_id,
        jobs.workload_id,
        jobs.gpu_count,
        greatest(
            jobs.started_at,
            {{ "cast(" ~ build_from() ~ " as timestamptz)" if build_from() else "jobs.started_at" }}
        ) as interval_started_at,
        least(coalesce(jobs.ended_at, book_ends.ended_at), book_ends.ended_at) as interval_ended_at
    from {{ ref("stg_jobs") }} as jobs
    cross join book_ends
    where
        jobs.gpu_count > 0
        and jobs.started_at is not null
        and {{ in_build_dates("coalesce(jobs.ended_at, book_ends.ended_at)") }}

),

held_jobs as (

    select *
    from started_jobs
    where interval_ended_at > interval_started_at

),

job_slices as ({{ cut_to_intervals("held_jobs") }})
{%- endmacro %}
