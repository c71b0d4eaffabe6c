with

listed as (

    select
        jobs.cluster,
        jobs.load_id,
        jobs.source_file,
        jobs.known_at,
        jobs.submitted_at,
        jobs.started_at,
        jobs.ended_at,
        coalesce(
            jobs.ended_at,
            jobs.started_at + to_seconds(jobs.elapsed_s + coalesce(jobs.suspended_s, 0)),
            jobs.submitted_at
        ) as seen_at
    from {{ source("raw", "jobs") }} as jobs
    where {{ known_at_as_of() }}

)

select
    listed.cluster,
    clusters.site_id,
    listed.load_id,
    max(listed.seen_at) as listed_until_at,
    min(coalesce(listed.started_at, listed.submitted_at)) as first_started_at,
    min(listed.ended_at) as first_ended_at,
    count(*) as job_count,
    max(listed.known_at) as known_at,
    any_value(listed.source_file) as source_file
from listed
inner join {{ source("raw", "clusters") }} as clusters
    on
        listed.cluster = clusters.cluster
        and clusters.holders is distinct from 'telemetry'
group by listed.cluster, clusters.site_id, listed.load_id
having max(listed.seen_at) is not null
