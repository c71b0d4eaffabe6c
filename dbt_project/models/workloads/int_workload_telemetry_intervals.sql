{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

nodes_seen as (

    select
        node_intervals.*,
        nodes.idle_w,
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
    from {{ ref("int_node_intervals") }} as node_intervals
    inner join {{ source("raw", "nodes") }} as nodes on node_intervals.hostname = nodes.hostname
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

{{ job_slice_ctes() }},

-- Only where nodes were watched are jobs followed to their nodes: everywhere else their GPUs are enough.
watched_slices as (

    select job_slices.*
    from job_slices
    semi join telemetry_spans
        on
            job_slices.site_id = telemetry_spans.site_id
            and job_slices.slice_started_at = telemetry_spans.interval_started_at

),

job_nodes as (

    select
        job_nodes.load_id,
        job_nodes.source_row,
        job_nodes.hostname,
        count(*) over (partition by job_nodes.load_id, job_nodes.source_row) as node_count
    from {{ ref("stg_job_nodes") }} as job_nodes
    semi join watched_slices
        on
            job_nodes.load_id = watched_slices.load_id
            and job_nodes.source_row = watched_slices.source_row

),

node_slices as (

    select
        slices.site_id,
        slices.slice_started_at as interval_started_at,
        slices.workload_id,
        job_nodes.hostname,
        round({{ exact_sum("slices.held_s * slices.gpu_count / job_nodes.node_count") }}, 6) as allocated_gpu_s
    from watched_slices as slices
    inner join job_nodes
        on
            slices.load_id = job_nodes.load_id
            and slices.source_row = job_nodes.source_row
    group by slices.site_id, slices.slice_started_at, slices.workload_id, job_nodes.hostname

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

measured as (

    select
        slices.site_id,
        slices.workload_id,
        slices.interval_started_at,
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
    group by slices.site_id, slices.workload_id, slices.interval_started_at

    union all

    select
        site_id,
        'idle' as workload_id,
        interval_started_at,
        {{ exact_sum("greatest(installed_gpu_s - allocated_gpu_s, 0)") }} as measured_gpu_s,
        cast(null as double) as busy_gpu_s,
        {{ exact_sum("idle_kwh") }} as energy_kwh
    from node_splits
    group by site_id, interval_started_at

)

select
    site_id,
    workload_id,
    interval_started_at,
    cast(interval_started_at as date) as utc_date,
    measured_gpu_s,
    busy_gpu_s,
    energy_kwh
from measured
