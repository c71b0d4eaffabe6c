{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

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
    from {{ ref("stg_node_intervals") }}
    where {{ in_build_dates("utc_date") }}

)

select
    nodes.site_id,
    nodes.interval_started_at,
    nodes.interval_ended_at,
    nodes.utc_date,
    site_gpus.gpu_count,
    site_gpus.node_count,
    round(sum(nodes.gpu_kwh), 6) as gpu_kwh,
    round(sum(nodes.node_kwh), 6) as node_kwh,
    round(sum(nodes.gpu_kwh) filter (where nodes.has_both), 6) as gpu_kwh_of_metered_nodes,
    round(sum(nodes.node_kwh) filter (where nodes.has_both), 6) as node_kwh_of_metered_nodes,
    round(sum(round(nodes.gpu_busy_s, 3)), 3) as gpu_busy_s,
    round(sum(round(nodes.power_capped_s, 3)), 3) as power_capped_s,
    round(sum(round(nodes.thermal_throttled_s, 3)), 3) as thermal_throttled_s,
    round(sum(round(nodes.covered_s, 3)), 3) / (900 * site_gpus.gpu_count) as gpu_coverage_ratio,
    round(sum(round(nodes.node_covered_s, 3)), 3) / (900 * site_gpus.node_count) as node_coverage_ratio
from nodes
inner join site_gpus on nodes.site_id = site_gpus.site_id
group by
    nodes.site_id,
    nodes.interval_started_at,
    nodes.interval_ended_at,
    nodes.utc_date,
    site_gpus.gpu_count,
    site_gpus.node_count
