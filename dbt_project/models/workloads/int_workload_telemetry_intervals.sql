{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{# There are as many rows as nodes have intervals, and of them two tables are joined: by number, which is shorter. #}

{# A job's share of what its node did; of a node that nobody held, as its job was suspended, that is nothing. #}
{% set share_ratio = "coalesce(slices.allocated_gpu_s / nullif(splits.allocated_gpu_s, 0), 0)" %}

with

nodes as (

    select
        *,
        row_number() over (order by hostname) as node_number
    from {{ source("raw", "nodes") }}

),

nodes_seen as (

    select
        nodes.node_number,
        node_intervals.site_id,
        node_intervals.interval_started_at,
        node_intervals.gpu_count * 900 as installed_gpu_s,
        node_intervals.gpu_busy_s,
        (nodes.idle_w + nodes.host_idle_w / node_intervals.gpu_count) / 3.6e6 as kwh_per_idle_gpu_s,
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

{{ held_job_ctes() }},

-- Only where nodes are watched are jobs followed to their nodes: everywhere else their GPUs are enough.
watched_jobs as (

    select held_jobs.*
    from held_jobs
    semi join {{ ref("int_node_intervals") }} as node_intervals
        on
            held_jobs.site_id = node_intervals.site_id
            and {{ in_build_dates("node_intervals.utc_date") }}

),

job_nodes as (

    select
        jobs.*,
        job_nodes.hostname,
        jobs.gpu_count / count(*) over (partition by jobs.load_id, jobs.source_row) as gpus_per_node
    from watched_jobs as jobs
    inner join {{ ref("stg_job_nodes") }} as job_nodes
        on
            jobs.load_id = job_nodes.load_id
            and jobs.source_row = job_nodes.source_row

),

numbered_job_nodes as (

    select
        job_nodes.load_id,
        job_nodes.source_row,
        job_nodes.site_id,
        job_nodes.workload_id,
        job_nodes.run_ratio,
        job_nodes.interval_started_at,
        job_nodes.interval_ended_at,
        job_nodes.gpus_per_node,
        nodes.node_number
    from job_nodes
    inner join nodes on job_nodes.hostname = nodes.hostname

),

{{ job_slice_ctes("numbered_job_nodes") }},

-- To cut jobs twice costs less than to keep the slices.
node_slices as not materialized (

    select
        site_id,
        workload_id,
        node_number,
        slice_started_at as interval_started_at,
        round(held_s * gpus_per_node, 6) as allocated_gpu_s
    from job_slices

    union all

    select
        pods.site_id,
        pods.workload_id,
        nodes.node_number,
        pods.interval_started_at,
        pods.allocated_gpu_s
    from {{ ref("int_pod_allocations") }} as pods
    inner join nodes on pods.hostname = nodes.hostname
    where {{ in_build_dates("pods.utc_date") }}

),

node_totals as (

    select
        node_number,
        interval_started_at,
        {{ exact_sum("allocated_gpu_s") }} as allocated_gpu_s
    from node_slices
    group by node_number, interval_started_at

),

-- What a node drew while part of it was free: the free part idled, the rest is its jobs'.
node_splits as (

    select
        telemetry.site_id,
        telemetry.node_number,
        telemetry.interval_started_at,
        telemetry.installed_gpu_s,
        telemetry.energy_kwh,
        telemetry.gpu_busy_s,
        coalesce(node_totals.allocated_gpu_s, 0) as allocated_gpu_s,
        case
            when coalesce(node_totals.allocated_gpu_s, 0) = 0 then telemetry.energy_kwh
            else least(
                telemetry.energy_kwh,
                greatest(telemetry.installed_gpu_s - node_totals.allocated_gpu_s, 0) * telemetry.kwh_per_idle_gpu_s
            )
        end as idle_kwh
    from telemetry
    left join node_totals
        on
            telemetry.node_number = node_totals.node_number
            and telemetry.interval_started_at = node_totals.interval_started_at

),

measured as (

    select
        slices.site_id,
        slices.workload_id,
        slices.interval_started_at,
        {{ exact_sum("slices.allocated_gpu_s") }} as measured_gpu_s,
        -- Sums, greatest() and least() pass over nulls: of nodes that did not tell how busy they were it is not known.
        round({{ sum_if_all_known("splits.gpu_busy_s * " ~ share_ratio, known="splits.gpu_busy_s") }}, 6)
            as busy_gpu_s,
        round({{ exact_sum("(splits.energy_kwh - splits.idle_kwh) * " ~ share_ratio) }}, 6) as energy_kwh
    from node_slices as slices
    inner join node_splits as splits
        on
            slices.node_number = splits.node_number
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
