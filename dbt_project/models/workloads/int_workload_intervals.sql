{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

intervals as (

    select *
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

book_ends as (

    select max(interval_ended_at) as ended_at
    from {{ ref("int_site_intervals") }}

),

nodes as (

    select *
    from {{ source("raw", "nodes") }}

),

-- A job that still runs holds its GPUs up to the end of the book.
jobs as (

    select
        jobs.cluster,
        jobs.job_id,
        jobs.submitted_at,
        jobs.load_id,
        jobs.site_id,
        jobs.workload_id,
        jobs.gpu_count,
        greatest(
            jobs.started_at,
            {{ "cast(" ~ build_from() ~ " as timestamptz)" if build_from() else "jobs.started_at" }}
        ) as started_at,
        least(coalesce(jobs.ended_at, book_ends.ended_at), book_ends.ended_at) as ended_at
    from {{ ref("stg_jobs") }} as jobs
    cross join book_ends
    where
        jobs.gpu_count > 0
        and jobs.started_at is not null
        and {{ in_build_dates("coalesce(jobs.ended_at, book_ends.ended_at)") }}

),

job_slices as (

    select
        *,
        epoch(
            least(ended_at, interval_started_at + interval 15 minutes)
            - greatest(started_at, interval_started_at)
        ) as allocated_s
    from (
        select
            *,
            unnest(
                generate_series(
                    {{ interval_start("started_at") }}, ended_at - interval 1 microsecond, interval 15 minutes
                )
            ) as interval_started_at
        from jobs
        where ended_at > started_at
    )

),

nodes_seen as (

    select
        node_intervals.*,
        nodes.idle_w,
        nodes.peak_w,
        nodes.host_idle_w,
        -- Without a sensor of its own the node is its GPUs and a host that follows them.
        coalesce(
            case when node_intervals.node_covered_s >= 450 then node_intervals.node_kwh end,
            node_intervals.gpu_kwh
            + (
                nodes.host_idle_w + (nodes.host_peak_w - nodes.host_idle_w)
                * node_intervals.gpu_busy_s / nullif(node_intervals.gpu_busy_s + node_intervals.gpu_idle_s, 0)
            ) / 4000
        ) as energy_kwh
    from {{ ref("stg_node_intervals") }} as node_intervals
    inner join nodes on node_intervals.hostname = nodes.hostname
    where
        {{ in_build_dates("node_intervals.utc_date") }}
        and node_intervals.coverage_ratio >= 0.5

),

-- A node whose energy is not known was not measured: what its model draws stands for it.
telemetry as (

    select *
    from nodes_seen
    where energy_kwh is not null

),

telemetry_spans as (

    select distinct
        site_id,
        interval_started_at
    from telemetry

),

watched_jobs as (

    select *
    from jobs
    where ended_at > (select min(telemetry_spans.interval_started_at) from telemetry_spans)

),

job_nodes as (

    select
        cluster,
        job_id,
        submitted_at,
        load_id,
        hostname,
        count(*) over (partition by cluster, job_id, submitted_at, load_id) as node_count
    from (
        select distinct
            job_nodes.cluster,
            job_nodes.job_id,
            job_nodes.submitted_at,
            job_nodes.load_id,
            job_nodes.hostname
        from {{ source("raw", "job_nodes") }} as job_nodes
        semi join watched_jobs
            on
                job_nodes.load_id = watched_jobs.load_id
                and job_nodes.cluster = watched_jobs.cluster
                and job_nodes.job_id = watched_jobs.job_id
                and job_nodes.submitted_at is not distinct from watched_jobs.submitted_at
    )

),

-- Only where nodes were watched are jobs followed to their nodes: everywhere else their GPUs are enough.
node_slices as (

    select
        slices.site_id,
        slices.interval_started_at,
        slices.workload_id,
        job_nodes.hostname,
        round({{ exact_sum("slices.allocated_s * slices.gpu_count / job_nodes.node_count") }}, 6) as allocated_gpu_s
    from job_slices as slices
    inner join telemetry_spans
        on
            slices.site_id = telemetry_spans.site_id
            and slices.interval_started_at = telemetry_spans.interval_started_at
    inner join job_nodes
        on
            slices.load_id = job_nodes.load_id
            and slices.cluster = job_nodes.cluster
            and slices.job_id = job_nodes.job_id
            and slices.submitted_at is not distinct from job_nodes.submitted_at
    group by slices.site_id, slices.interval_started_at, slices.workload_id, job_nodes.hostname

),

node_totals as (

    select
        hostname,
        interval_started_at,
        {{ exact_sum("allocated_gpu_s") }} as allocated_gpu_s
    from node_slices
    group by hostname, interval_started_at

),

-- What a node drew while part of it was free: the free part idled, the rest is its jobs'.
node_splits as (

    select
        telemetry.site_id,
        telemetry.hostname,
        telemetry.interval_started_at,
        telemetry.gpu_count * 900 as installed_gpu_s,
        telemetry.energy_kwh,
        telemetry.gpu_busy_s,
        coalesce(node_totals.allocated_gpu_s, 0) as allocated_gpu_s,
        case
            when coalesce(node_totals.allocated_gpu_s, 0) = 0 then telemetry.energy_kwh
            else least(
                telemetry.energy_kwh,
                greatest(telemetry.gpu_count * 900 - node_totals.allocated_gpu_s, 0)
                * (telemetry.idle_w + telemetry.host_idle_w / telemetry.gpu_count) / 3.6e6
            )
        end as idle_kwh
    from telemetry
    left join node_totals
        on
            telemetry.hostname = node_totals.hostname
            and telemetry.interval_started_at = node_totals.interval_started_at

),

measured_work as (

    select
        slices.site_id,
        slices.interval_started_at,
        slices.workload_id,
        {{ exact_sum("slices.allocated_gpu_s") }} as measured_gpu_s,
        -- Sums, greatest() and least() pass over nulls: of nodes that did not tell how busy they were it is not known.
        round({{ sum_if_all_known(
            "splits.gpu_busy_s * slices.allocated_gpu_s / splits.allocated_gpu_s", known="splits.gpu_busy_s"
        ) }}, 6) as busy_gpu_s,
        round(
            {{ exact_sum("(splits.energy_kwh - splits.idle_kwh) * slices.allocated_gpu_s / splits.allocated_gpu_s") }},
            6
        ) as energy_kwh
    from node_slices as slices
    inner join node_splits as splits
        on
            slices.hostname = splits.hostname
            and slices.interval_started_at = splits.interval_started_at
    group by slices.site_id, slices.interval_started_at, slices.workload_id

),

measured_idling as (

    select
        site_id,
        interval_started_at,
        {{ exact_sum("greatest(installed_gpu_s - allocated_gpu_s, 0)") }} as measured_gpu_s,
        {{ exact_sum("idle_kwh") }} as energy_kwh
    from node_splits
    group by site_id, interval_started_at

),

site_gpus as (

    select
        site_id,
        sum(gpu_count) as gpu_count,
        round({{ exact_sum("gpu_count * peak_w + host_peak_w") }} / sum(gpu_count), 6) as peak_w,
        round({{ exact_sum("gpu_count * idle_w + host_idle_w") }} / sum(gpu_count), 6) as idle_w
    from nodes
    group by site_id

),

work as (

    select
        site_id,
        interval_started_at,
        workload_id,
        round({{ exact_sum("allocated_s * gpu_count") }}, 6) as gpu_s
    from job_slices
    group by site_id, interval_started_at, workload_id

),

work_totals as (

    select
        site_id,
        interval_started_at,
        {{ exact_sum("gpu_s") }} as gpu_s
    from work
    group by site_id, interval_started_at

),

-- Measured energy where nodes were watched, their models' power for the rest.
weights as (

    select
        work.site_id,
        work.interval_started_at,
        work.workload_id,
        work.gpu_s as allocated_gpu_s,
        measured_work.measured_gpu_s,
        measured_work.busy_gpu_s,
        case
            when measured_work.busy_gpu_s is not null
                then greatest(measured_work.measured_gpu_s - measured_work.busy_gpu_s, 0)
        end as idle_gpu_s,
        coalesce(measured_work.energy_kwh, 0)
        + greatest(work.gpu_s - coalesce(measured_work.measured_gpu_s, 0), 0) * site_gpus.peak_w / 3.6e6
            as weight_kwh
    from work
    inner join site_gpus on work.site_id = site_gpus.site_id
    left join measured_work
        on
            work.site_id = measured_work.site_id
            and work.interval_started_at = measured_work.interval_started_at
            and work.workload_id = measured_work.workload_id

    union all

    select
        intervals.site_id,
        intervals.interval_started_at,
        'idle' as workload_id,
        0 as allocated_gpu_s,
        measured_idling.measured_gpu_s,
        cast(null as double) as busy_gpu_s,
        greatest(site_gpus.gpu_count * 900 - coalesce(work_totals.gpu_s, 0), 0) as idle_gpu_s,
        coalesce(measured_idling.energy_kwh, 0)
        + greatest(
            site_gpus.gpu_count * 900 - coalesce(work_totals.gpu_s, 0) - coalesce(measured_idling.measured_gpu_s, 0), 0
        ) * site_gpus.idle_w / 3.6e6 as weight_kwh
    from intervals
    inner join site_gpus on intervals.site_id = site_gpus.site_id
    left join work_totals
        on
            intervals.site_id = work_totals.site_id
            and intervals.interval_started_at = work_totals.interval_started_at
    left join measured_idling
        on
            intervals.site_id = measured_idling.site_id
            and intervals.interval_started_at = measured_idling.interval_started_at

),

shares as (

    select
        *,
        weight_kwh / nullif(
            {{ exact_sum("weight_kwh", over="(partition by site_id, interval_started_at)") }}, 0
        ) as share_ratio
    from weights

),

split as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        intervals.local_date,
        shares.workload_id,
        round(shares.allocated_gpu_s / 3600, 6) as allocated_gpu_hours,
        round(shares.measured_gpu_s / 3600, 6) as measured_gpu_hours,
        round(shares.busy_gpu_s / 3600, 6) as used_gpu_hours,
        round(shares.idle_gpu_s / 3600, 6) as idle_gpu_hours,
        meters.it_load_kwh * shares.share_ratio as energy_kwh
    from intervals
    inner join {{ ref("int_meter_roles_pivoted") }} as meters
        on
            intervals.site_id = meters.site_id
            and intervals.interval_started_at = meters.interval_started_at
    inner join shares
        on
            intervals.site_id = shares.site_id
            and intervals.interval_started_at = shares.interval_started_at

    union all

    select
        intervals.site_id,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        intervals.local_date,
        'overhead' as workload_id,
        0 as allocated_gpu_hours,
        cast(null as double) as measured_gpu_hours,
        cast(null as double) as used_gpu_hours,
        0 as idle_gpu_hours,
        meters.facility_total_kwh - meters.it_load_kwh as energy_kwh
    from intervals
    inner join {{ ref("int_meter_roles_pivoted") }} as meters
        on
            intervals.site_id = meters.site_id
            and intervals.interval_started_at = meters.interval_started_at

)

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    local_date,
    workload_id,
    allocated_gpu_hours,
    measured_gpu_hours,
    used_gpu_hours,
    idle_gpu_hours,
    {{ round_kwh("energy_kwh") }} as energy_kwh
from split
