with

book_ends as (

    select
        site_id,
        max(interval_started_at) + interval 15 minutes as ended_at
    from {{ ref("int_job_coverage") }}
    group by site_id

),

-- What may only not have been listed yet is told once it has lasted a day.
listings as (

    select
        site_id,
        min(first_started_at) as first_started_at,
        max(listed_until_at) as last_listed_at
    from {{ ref("stg_job_listings") }}
    group by site_id

),

unknown as (

    select
        coverage.site_id,
        coverage.interval_started_at,
        case coverage.unknown_reason
            when 'not_listed' then 'jobs_not_listed'
            when 'over_allocated' then 'gpus_over_allocated'
        end as rule_id,
        coverage.allocated_gpu_s / 900 as allocated_gpu_count,
        coverage.installed_gpu_s / 900 as installed_gpu_count
    from {{ ref("int_job_coverage") }} as coverage
    inner join listings on coverage.site_id = listings.site_id
    inner join book_ends on coverage.site_id = book_ends.site_id
    where
        coverage.unknown_reason = 'over_allocated'
        or (
            coverage.unknown_reason = 'not_listed'
            and coverage.interval_started_at >= listings.first_started_at
            and (
                coverage.interval_started_at < listings.last_listed_at
                or book_ends.ended_at - listings.last_listed_at > interval 1 day
            )
        )

),

jobs as (

    select
        jobs.cluster || '/' || jobs.job_id as subject_id,
        jobs.site_id,
        jobs.gpu_count,
        jobs.started_at,
        jobs.held_until_at,
        jobs.source_file,
        {{ interval_end("jobs.held_until_at") }} as unknown_from_at,
        jobs.ended_at is null as is_running
    from {{ ref("stg_jobs") }} as jobs
    where
        jobs.gpu_count is null
        or (jobs.ended_at is null and jobs.gpu_count > 0)

),

next_known as (

    select
        site_id,
        interval_started_at
    from {{ ref("int_job_coverage") }}
    where is_known

),

-- A job that was in one listing and is in no later one.
lost_jobs as (

    select
        jobs.*,
        next_known.interval_started_at as known_again_at
    from jobs
    inner join {{ ref("int_job_coverage") }} as coverage
        on
            jobs.site_id = coverage.site_id
            and jobs.unknown_from_at = coverage.interval_started_at
            and not coverage.is_known
    inner join book_ends on jobs.site_id = book_ends.site_id
    inner join listings on jobs.site_id = listings.site_id
    asof left join next_known
        on
            jobs.site_id = next_known.site_id
            and jobs.unknown_from_at < next_known.interval_started_at
    where
        jobs.is_running
        and jobs.gpu_count > 0
        and (
            listings.last_listed_at > jobs.unknown_from_at
            or book_ends.ended_at - listings.last_listed_at > interval 1 day
        )

)

select
    rule_id,
    site_id,
    'site' as subject_kind,
    site_id as subject_id,
    interval_started_at,
    interval_started_at + interval 15 minutes as interval_ended_at,
    case when rule_id = 'gpus_over_allocated' then allocated_gpu_count end as value,
    case rule_id
        when 'gpus_over_allocated'
            then 'no more than the ' || format('{:.10g}', installed_gpu_count) || ' GPUs installed'
        else 'a listing of the jobs that ran'
    end as expected,
    cast(null as varchar) as source_file
from unknown

union all

select
    'job_without_end' as rule_id,
    site_id,
    'job' as subject_kind,
    subject_id,
    held_until_at as interval_started_at,
    known_again_at as interval_ended_at,
    gpu_count as value,
    'its end, or the job in the listings after the one that has it running' as expected,
    source_file
from lost_jobs

union all

select
    'job_gpus_not_told' as rule_id,
    site_id,
    'job' as subject_kind,
    subject_id,
    started_at as interval_started_at,
    held_until_at as interval_ended_at,
    cast(null as double) as value,
    'its GPUs in AllocTRES, or its nodes in NodeList' as expected,
    source_file
from jobs
where
    gpu_count is null
    and held_until_at > started_at
