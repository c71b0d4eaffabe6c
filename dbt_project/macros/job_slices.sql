{#
    CTEs of the time for which jobs held GPUs: the last, `held_jobs`, has one row per job with `gpu_count`, the interval
    up to its end or to where it was last seen running, within the book and the days a run rebuilds, and in `run_ratio`
    which part of its time it ran.
#}
{% macro held_job_ctes() -%}
book_ends as (

    select max(interval_ended_at) as ended_at
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date", days_before=32) }}

),

started_jobs as (

    select
        jobs.load_id,
        jobs.source_row,
        jobs.site_id,
        jobs.workload_id,
        jobs.gpu_count,
        jobs.run_s / epoch(jobs.held_until_at - jobs.started_at) as run_ratio,
        greatest(
            jobs.started_at,
            {{ "cast(" ~ build_from() ~ " as timestamptz)" if build_from() else "jobs.started_at" }}
        ) as interval_started_at,
        least(jobs.held_until_at, book_ends.ended_at) as interval_ended_at
    from {{ ref("stg_jobs") }} as jobs
    cross join book_ends
    where
        jobs.gpu_count > 0
        and jobs.held_until_at > jobs.started_at
        and {{ in_build_dates("jobs.held_until_at") }}

),

held_jobs as (

    select *
    from started_jobs
    where interval_ended_at > interval_started_at

)
{%- endmacro %}

{#
    CTEs that cut the rows of `relation`, those of `held_jobs` or of parts of them, at the borders of the book's grain:
    the last, `job_slices`, has one row per row of it and 15-minute interval, as `slice_started_at`, with the seconds
    `held_s` for which the job held its GPUs, less the time it was suspended. Where in its time that was, stands in
    int_suspended_job_intervals. A macro, as one row per job and interval is too many to keep.
#}
{% macro job_slice_ctes(relation) -%}
cut_jobs as ({{ cut_to_intervals(relation) }}),

job_slices as (

    select
        cut_jobs.*,
        coalesce(suspended.held_s, round(cut_jobs.overlap_s * cut_jobs.run_ratio, 6)) as held_s
    from cut_jobs
    left join {{ ref("int_suspended_job_intervals") }} as suspended
        on
            cut_jobs.load_id = suspended.load_id
            and cut_jobs.source_row = suspended.source_row
            and cut_jobs.slice_started_at = suspended.interval_started_at
            and {{ in_build_dates("suspended.utc_date") }}

)
{%- endmacro %}
