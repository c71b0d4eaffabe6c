with

-- Up to where it is known which jobs ran.
book_ends as (

    select
        site_id,
        max(interval_started_at) + interval 15 minutes as ended_at
    from {{ ref("int_job_coverage") }}
    where is_known
    group by site_id

),

stopped as (

    select
        incidents.incident_id,
        jobs.site_id,
        jobs.workload_id,
        jobs.job_id,
        jobs.gpu_count,
        jobs.ended_at as deferred_from_at,
        incidents.started_at as incident_started_at,
        incidents.ended_at as incident_ended_at,
        row_number() over (
            partition by incidents.incident_id, jobs.workload_id, jobs.gpu_count
            order by jobs.ended_at, jobs.job_id
        ) as place
    from {{ ref("stg_jobs") }} as jobs
    inner join {{ ref("calc_incident_spans") }} as incidents
        on
            jobs.site_id = incidents.site_id
            and jobs.ended_at >= incidents.started_at
            and jobs.ended_at < incidents.ended_at
    where
        jobs.comment like 'energy:%'
        and jobs.criticality = 'tolerant'

),

first_stops as (

    select
        incident_id,
        workload_id,
        gpu_count,
        min(deferred_from_at) as stopped_at
    from stopped
    group by incident_id, workload_id, gpu_count

),

-- Accounting does not say which job goes on with a stopped one: as many jobs of the same workload and size handed in
-- while the incident lasted, and not started before, are taken for them, in order.
handed_in as (

    select
        incidents.incident_id,
        jobs.workload_id,
        jobs.gpu_count,
        jobs.job_id,
        jobs.started_at,
        jobs.state,
        jobs.run_s,
        jobs.ended_at is null as is_running,
        row_number() over (
            partition by incidents.incident_id, jobs.workload_id, jobs.gpu_count
            order by jobs.submitted_at, jobs.job_id
        ) as place
    from {{ ref("stg_jobs") }} as jobs
    inner join {{ ref("calc_incident_spans") }} as incidents
        on
            jobs.site_id = incidents.site_id
            and jobs.submitted_at >= incidents.started_at
            and jobs.submitted_at < incidents.ended_at
    inner join first_stops
        on
            incidents.incident_id = first_stops.incident_id
            and jobs.workload_id = first_stops.workload_id
            and jobs.gpu_count = first_stops.gpu_count
    where coalesce(jobs.started_at >= first_stops.stopped_at, true)

),

resumed as (

    select
        stopped.incident_id,
        stopped.site_id,
        stopped.workload_id,
        stopped.job_id,
        stopped.gpu_count,
        stopped.deferred_from_at,
        handed_in.job_id as resumed_job_id,
        handed_in.started_at as resumed_at,
        handed_in.state = 'COMPLETED' as is_finished,
        coalesce(handed_in.run_s, 0) as run_s,
        coalesce(handed_in.is_running, false) as is_running,
        epoch(
            least(stopped.incident_ended_at, coalesce(handed_in.started_at, stopped.incident_ended_at))
            - stopped.deferred_from_at
        ) as stopped_s,
        -- What no rule assigns may not wait.
        stopped.deferred_from_at + to_seconds(coalesce(workloads.max_deferral_hours, 0) * 3600) as due_at,
        book_ends.ended_at as book_ended_at
    from stopped
    inner join book_ends on stopped.site_id = book_ends.site_id
    left join {{ source("raw", "workloads") }} as workloads on stopped.workload_id = workloads.workload_id
    left join handed_in
        on
            stopped.incident_id = handed_in.incident_id
            and stopped.workload_id = handed_in.workload_id
            and stopped.gpu_count = handed_in.gpu_count
            and stopped.place = handed_in.place
            and coalesce(stopped.deferred_from_at <= handed_in.started_at, true)

),

-- A job that completed had no more to do than it then did.
measured as (

    select
        *,
        case when is_finished then least(stopped_s, run_s) else stopped_s end as deferred_s
    from resumed

),

caught_up as (

    select
        *,
        case when resumed_at <= due_at then least(deferred_s, run_s) else 0 end as caught_up_s
    from measured

)

select
    incident_id,
    site_id,
    workload_id,
    job_id,
    gpu_count,
    deferred_from_at,
    resumed_job_id,
    resumed_at,
    due_at,
    deferred_s,
    caught_up_s,
    -- What its successor had still to do when it was last seen is not lost yet.
    case
        when due_at >= book_ended_at or is_running then 0
        else deferred_s - caught_up_s
    end as lost_s
from caught_up
