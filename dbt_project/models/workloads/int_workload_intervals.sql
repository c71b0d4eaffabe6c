{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

intervals as (

    select *
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

coverage as (

    select *
    from {{ ref("int_job_coverage") }}
    where {{ in_build_dates("utc_date") }}

),

site_gpus as (

    select
        site_id,
        round({{ exact_sum("gpu_count * peak_w + host_peak_w") }} / sum(gpu_count), 6) as peak_w,
        round({{ exact_sum("gpu_count * idle_w + host_idle_w") }} / sum(gpu_count), 6) as idle_w
    from {{ source("raw", "nodes") }}
    group by site_id

),

work as (

    select *
    from {{ ref("int_workload_allocations") }}
    where {{ in_build_dates("utc_date") }}

),

measured as (

    select *
    from {{ ref("int_workload_telemetry_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

-- Measured energy where nodes were watched, their models' power for the rest.
weights as (

    select
        work.site_id,
        work.interval_started_at,
        work.workload_id,
        work.allocated_gpu_s,
        measured.measured_gpu_s,
        measured.busy_gpu_s,
        case
            when measured.busy_gpu_s is not null then greatest(measured.measured_gpu_s - measured.busy_gpu_s, 0)
        end as idle_gpu_s,
        coalesce(measured.energy_kwh, 0)
        + greatest(work.allocated_gpu_s - coalesce(measured.measured_gpu_s, 0), 0) * site_gpus.peak_w / 3.6e6
            as weight_kwh
    from work
    inner join coverage
        on
            work.site_id = coverage.site_id
            and work.interval_started_at = coverage.interval_started_at
            and coverage.is_known
    inner join site_gpus on work.site_id = site_gpus.site_id
    left join measured
        on
            work.site_id = measured.site_id
            and work.interval_started_at = measured.interval_started_at
            and work.workload_id = measured.workload_id

    union all

    select
        coverage.site_id,
        coverage.interval_started_at,
        'idle' as workload_id,
        0 as allocated_gpu_s,
        measured.measured_gpu_s,
        measured.busy_gpu_s,
        greatest(coverage.installed_gpu_s - coverage.allocated_gpu_s, 0) as idle_gpu_s,
        coalesce(measured.energy_kwh, 0)
        + greatest(
            coverage.installed_gpu_s - coverage.allocated_gpu_s - coalesce(measured.measured_gpu_s, 0), 0
        ) * site_gpus.idle_w / 3.6e6 as weight_kwh
    from coverage
    inner join site_gpus on coverage.site_id = site_gpus.site_id
    left join measured
        on
            coverage.site_id = measured.site_id
            and coverage.interval_started_at = measured.interval_started_at
            and measured.workload_id = 'idle'
    where coverage.is_known

),

shares as (

    select
        *,
        weight_kwh / nullif(
            {{ exact_sum("weight_kwh", over="(partition by site_id, interval_started_at)") }}, 0
        ) as share_ratio
    from weights

),

metered as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        intervals.local_date,
        -- Without a facility meter the site is what it takes in; without an IT meter IT follows from the stated PUE.
        case when meters.has_facility_meter then meters.facility_total_kwh else meters.consumption_kwh end as site_kwh,
        case
            when meters.has_it_meter then meters.it_load_kwh
            when meters.has_facility_meter then meters.facility_total_kwh / intervals.design_pue_ratio
            else meters.consumption_kwh / intervals.design_pue_ratio
        end as it_kwh,
        not coalesce(meters.has_it_meter, false) as is_pue_assumed
    from intervals
    -- Work is known by its jobs, whether or not the site has a meter.
    left join {{ ref("int_meter_roles_pivoted") }} as meters
        on
            intervals.site_id = meters.site_id
            and intervals.interval_started_at = meters.interval_started_at
            and {{ in_build_dates("meters.utc_date") }}

)

select
    metered.site_id,
    metered.interval_started_at,
    metered.interval_ended_at,
    metered.utc_date,
    metered.local_date,
    shares.workload_id,
    round(shares.allocated_gpu_s / 3600, 6) as allocated_gpu_hours,
    round(shares.measured_gpu_s / 3600, 6) as measured_gpu_hours,
    round(shares.busy_gpu_s / 3600, 6) as used_gpu_hours,
    round(shares.idle_gpu_s / 3600, 6) as idle_gpu_hours,
    0 as unknown_gpu_hours,
    {{ round_kwh("metered.it_kwh * shares.share_ratio") }} as energy_kwh,
    metered.site_kwh,
    metered.is_pue_assumed
from metered
inner join shares
    on
        metered.site_id = shares.site_id
        and metered.interval_started_at = shares.interval_started_at

union all

select
    metered.site_id,
    metered.interval_started_at,
    metered.interval_ended_at,
    metered.utc_date,
    metered.local_date,
    'unknown' as workload_id,
    cast(null as double) as allocated_gpu_hours,
    cast(null as double) as measured_gpu_hours,
    cast(null as double) as used_gpu_hours,
    cast(null as double) as idle_gpu_hours,
    coverage.installed_gpu_s / 3600 as unknown_gpu_hours,
    {{ round_kwh("metered.it_kwh") }} as energy_kwh,
    metered.site_kwh,
    metered.is_pue_assumed
from metered
inner join coverage
    on
        metered.site_id = coverage.site_id
        and metered.interval_started_at = coverage.interval_started_at
        and not coverage.is_known

union all

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    local_date,
    'overhead' as workload_id,
    0 as allocated_gpu_hours,
    cast(null as double) as measured_gpu_hours,
    cast(null as double) as used_gpu_hours,
    0 as idle_gpu_hours,
    0 as unknown_gpu_hours,
    {{ round_kwh("site_kwh - it_kwh") }} as energy_kwh,
    site_kwh,
    is_pue_assumed
from metered
