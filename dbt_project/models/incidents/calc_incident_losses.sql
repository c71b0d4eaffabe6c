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

shed as (

    select
        incident_id,
        site_id,
        workload_id,
        slice_started_at as interval_started_at,
        round({{ exact_sum("gpu_count * overlap_s") }} / 3600, 9) as shed_gpu_hours,
        -- IEEE 1366 counts interruptions of more than five minutes.
        coalesce(round({{ exact_sum("gpu_count * overlap_s", "is_sustained") }} / 3600, 9), 0) as interrupted_gpu_hours,
        coalesce(
            sum(gpu_count) filter (where is_sustained and interval_started_at >= slice_started_at), 0
        ) as interrupted_gpu_count
    from shed_slices
    group by incident_id, site_id, workload_id, slice_started_at

),

capped_intervals as (

    select
        incidents.incident_id,
        signals.site_id,
        signals.interval_started_at,
        telemetry.power_capped_s / 3600 as capped_gpu_hours
    from {{ ref("calc_energy_constraint_signals") }} as signals
    inner join incidents
        on
            signals.site_id = incidents.site_id
            and signals.interval_started_at >= incidents.started_at
            and signals.interval_started_at < incidents.ended_at
    inner join {{ ref("int_site_telemetry_intervals") }} as telemetry
        on
            signals.site_id = telemetry.site_id
            and signals.interval_started_at = telemetry.interval_started_at
    where signals.signal = 'power_capping'

),

-- Whose GPUs were held back is told by who held GPUs in that interval.
capped as (

    select
        capped_intervals.incident_id,
        capped_intervals.site_id,
        holders.workload_id,
        capped_intervals.interval_started_at,
        round(
            capped_intervals.capped_gpu_hours * holders.allocated_gpu_hours
            / {{ exact_sum("holders.allocated_gpu_hours", over="site_interval") }}, 9
        ) as capped_gpu_hours
    from capped_intervals
    inner join {{ ref("int_workload_intervals") }} as holders
        on
            capped_intervals.site_id = holders.site_id
            and capped_intervals.interval_started_at = holders.interval_started_at
            and holders.allocated_gpu_hours > 0
    window site_interval as (partition by capped_intervals.site_id, capped_intervals.interval_started_at)

)

select
    coalesce(shed.incident_id, capped.incident_id) as incident_id,
    coalesce(shed.site_id, capped.site_id) as site_id,
    coalesce(shed.workload_id, capped.workload_id) as workload_id,
    coalesce(workloads.criticality, 'tolerant') as criticality,
    coalesce(shed.interval_started_at, capped.interval_started_at) as interval_started_at,
    coalesce(shed.shed_gpu_hours, 0) as shed_gpu_hours,
    coalesce(shed.interrupted_gpu_hours, 0) as interrupted_gpu_hours,
    coalesce(shed.interrupted_gpu_count, 0) as interrupted_gpu_count,
    coalesce(capped.capped_gpu_hours, 0) as capped_gpu_hours,
    coalesce(shed.shed_gpu_hours, 0) + coalesce(capped.capped_gpu_hours, 0) as lost_gpu_hours,
    round(
        (coalesce(shed.shed_gpu_hours, 0) + coalesce(capped.capped_gpu_hours, 0))
        * workloads.value_per_lost_gpu_hour, 6
    ) as lost_value
from shed
full join capped
    on
        shed.incident_id = capped.incident_id
        and shed.workload_id = capped.workload_id
        and shed.interval_started_at = capped.interval_started_at
left join {{ source("raw", "workloads") }} as workloads
    on coalesce(shed.workload_id, capped.workload_id) = workloads.workload_id
