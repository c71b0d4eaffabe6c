{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{# Less than this of either, and busy and idle power say little of one another. #}
{% set telemetry_hours = 1 %}

with

days as (

    select distinct
        site_id,
        utc_date
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

site_gpus as (

    select
        site_id,
        gpu_model,
        sum(gpu_count) as gpu_count,
        {{ exact_sum("gpu_count * (peak_w - idle_w)") }} / sum(gpu_count) / 1000 as gpu_incremental_kw,
        {{ exact_sum("host_peak_w - host_idle_w") }} / sum(gpu_count) / 1000 as host_incremental_kw
    from {{ source("raw", "nodes") }}
    where gpu_count > 0
    group by site_id, gpu_model

),

-- Of a GPU model, wherever it runs: sites that have the same one are compared by the same power.
telemetry as (

    select
        nodes.gpu_model,
        node_intervals.utc_date,
        {{ exact_sum("node_intervals.busy_kwh") }} as busy_kwh,
        {{ exact_sum("node_intervals.idle_kwh") }} as idle_kwh,
        {{ exact_sum("node_intervals.gpu_busy_s", "node_intervals.busy_kwh is not null") }} / 3600 as busy_gpu_hours,
        {{ exact_sum("node_intervals.gpu_idle_s", "node_intervals.idle_kwh is not null") }} / 3600 as idle_gpu_hours
    from {{ ref("int_node_intervals") }} as node_intervals
    inner join {{ source("raw", "nodes") }} as nodes
        on
            node_intervals.site_id = nodes.site_id
            and node_intervals.hostname = nodes.hostname
    where {{ in_build_dates("node_intervals.utc_date") }}
    group by nodes.gpu_model, node_intervals.utc_date

),

measured_power as (

    select
        gpu_model,
        utc_date,
        busy_kwh / busy_gpu_hours - idle_kwh / idle_gpu_hours as gpu_incremental_kw
    from telemetry
    where
        busy_gpu_hours >= {{ telemetry_hours }}
        and idle_gpu_hours >= {{ telemetry_hours }}
        and busy_kwh / busy_gpu_hours > idle_kwh / idle_gpu_hours

),

-- The host's part is not in the GPU's own counter: it follows in the proportion of the models' power.
incremental as (

    select
        days.site_id,
        days.utc_date,
        site_gpus.gpu_count,
        coalesce(measured_power.gpu_incremental_kw, site_gpus.gpu_incremental_kw)
        * (site_gpus.gpu_incremental_kw + site_gpus.host_incremental_kw)
        / nullif(site_gpus.gpu_incremental_kw, 0) as incremental_kw,
        measured_power.gpu_model is not null as is_measured
    from days
    left join site_gpus on days.site_id = site_gpus.site_id
    left join measured_power
        on
            site_gpus.gpu_model = measured_power.gpu_model
            and days.utc_date = measured_power.utc_date

)

select
    site_id,
    utc_date,
    {{ sum_if_all_known("gpu_count * incremental_kw") }} / sum(gpu_count) as incremental_kwh_per_gpu_hour,
    bool_and(is_measured) as is_incremental_power_measured
from incremental
group by site_id, utc_date
