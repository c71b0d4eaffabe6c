with

incidents as (

    select *
    from {{ ref("calc_incident_spans") }}

),

shed_jobs as (

    select
        incidents.incident_id,
        incidents.site_id,
        jobs.workload_id,
        jobs.criticality,
        jobs.gpu_count,
        jobs.ended_at as interval_started_at,
        incidents.ended_at as interval_ended_at,
        incidents.ended_at - jobs.ended_at > interval 5 minutes as is_sustained
    from {{ ref("stg_jobs") }} as jobs
    inner join incidents
        on
            jobs.site_id = incidents.site_id
            and jobs.ended_at >= incidents.started_at
            and jobs.ended_at < incidents.ended_at
    where jobs.comment like 'energy:%'

),

shed_slices as ({{ cut_to_intervals("shed_jobs") }}),

effects as (

    -- Sensitive work that was stopped is not done later. IEEE 1366 counts interruptions of more than five minutes.
    select
        incident_id,
        site_id,
        workload_id,
        slice_started_at as interval_started_at,
        gpu_count * overlap_s / 3600 as shed_gpu_hours,
        case when is_sustained then gpu_count * overlap_s / 3600 else 0 end as interrupted_gpu_hours,
        case when is_sustained and interval_started_at >= slice_started_at then gpu_count else 0 end
            as interrupted_gpu_count,
        0 as deferred_gpu_hours,
        0 as slowed_gpu_hours,
        case when criticality = 'sensitive' then gpu_count * overlap_s / 3600 else 0 end as lost_gpu_hours
    from shed_slices

    union all

    -- Tolerant work that was stopped is put off, and lost as far as it was not caught up in time.
    select
        incident_id,
        site_id,
        workload_id,
        moved_at as interval_started_at,
        0 as shed_gpu_hours,
        0 as interrupted_gpu_hours,
        0 as interrupted_gpu_count,
        gpu_hours as deferred_gpu_hours,
        0 as slowed_gpu_hours,
        lost_gpu_hours
    from {{ ref("calc_deferral_movements") }}
    where kind = 'deferred'

    union all

    select
        incidents.incident_id,
        slowed.site_id,
        slowed.workload_id,
        slowed.interval_started_at,
        0 as shed_gpu_hours,
        0 as interrupted_gpu_hours,
        0 as interrupted_gpu_count,
        0 as deferred_gpu_hours,
        slowed.lost_gpu_hours as slowed_gpu_hours,
        slowed.lost_gpu_hours
    from {{ ref("calc_slowed_work") }} as slowed
    inner join incidents
        on
            slowed.site_id = incidents.site_id
            and slowed.interval_started_at >= incidents.started_at
            and slowed.interval_started_at < incidents.ended_at
    where slowed.decision_id is null

),

losses as (

    select
        incident_id,
        site_id,
        workload_id,
        interval_started_at,
        {%- for hours in ["shed", "interrupted", "deferred", "slowed", "lost"] %}
        round({{ sum_if_all_known(hours ~ "_gpu_hours") }}, 9) as {{ hours }}_gpu_hours,
        {%- endfor %}
        round({{ exact_sum("interrupted_gpu_count") }}, 9) as interrupted_gpu_count
    from effects
    group by incident_id, site_id, workload_id, interval_started_at

)

select
    losses.incident_id,
    losses.site_id,
    losses.workload_id,
    coalesce(workloads.criticality, 'tolerant') as criticality,
    losses.interval_started_at,
    losses.shed_gpu_hours,
    losses.interrupted_gpu_hours,
    losses.interrupted_gpu_count,
    losses.deferred_gpu_hours,
    losses.slowed_gpu_hours,
    losses.lost_gpu_hours,
    case
        when losses.lost_gpu_hours = 0 then 0
        else round(losses.lost_gpu_hours * workloads.value_per_lost_gpu_hour, 6)
    end as lost_value
from losses
left join {{ source("raw", "workloads") }} as workloads on losses.workload_id = workloads.workload_id
