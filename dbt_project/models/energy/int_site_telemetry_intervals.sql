{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

site_gpus as (

    select
        site_id,
        count(hostname) as node_count,
        sum(gpu_count) as gpu_count
    from {{ source("raw", "nodes") }}
    group by site_id

),

nodes as (

    select
        *,
        gpu_kwh is not null and node_kwh is not null as has_both
    from {{ ref("int_node_intervals") }}
    where {{ in_build_dates("utc_date") }}

)

select
    nodes.site_id,
    nodes.interval_started_at,
    nodes.interval_ended_at,
    nodes.utc_date,
    site_gpus.gpu_count,
    site_gpus.node_count,
    {{ exact_sum("nodes.gpu_kwh") }} as gpu_kwh,
    {{ exact_sum("nodes.node_kwh") }} as node_kwh,
    {{ exact_sum("nodes.gpu_kwh", "nodes.has_both") }} as gpu_kwh_of_metered_nodes,
    {{ exact_sum("nodes.node_kwh", "nodes.has_both") }} as node_kwh_of_metered_nodes,
    {{ exact_sum("nodes.gpu_busy_s") }} as gpu_busy_s,
    {{ exact_sum("nodes.power_constrained_s") }} as power_constrained_s,
    {{ exact_sum("nodes.thermal_throttled_s") }} as thermal_throttled_s,
    {{ exact_sum("nodes.covered_s") }} / (900 * site_gpus.gpu_count) as gpu_coverage_ratio,
    {{ exact_sum("nodes.node_covered_s") }} / (900 * site_gpus.node_count) as node_coverage_ratio
from nodes
inner join site_gpus on nodes.site_id = site_gpus.site_id
group by
    nodes.site_id,
    nodes.interval_started_at,
    nodes.interval_ended_at,
    nodes.utc_date,
    site_gpus.gpu_count,
    site_gpus.node_count
