{{ config(materialized = "incremental", meta = {"is_rewritten": true}) }}

with

intervals as ({{ kpi_week_intervals(ref("calc_site_kpi_intervals")) }}),

figures as (

    select
        site_id,
        week,
        {{ kpi_supply_aggregates() }},
        {{ kpi_energy_aggregates() }}
    from intervals
    group by site_id, week
    {{ union_kept(in_build_weeks(), kpi_joined_columns(has_indices=true)) }}

),

loaded as (

    select
        site_id,
        week,
        {{ kpi_loaded_cost() }}
    from ({{ kpi_loaded_days() }})
    group by site_id, week

),

incidents as (

    select
        site_id,
        week,
        {{ kpi_incident_aggregates() }}
    from {{ ref("calc_incident_intervals") }}
    group by site_id, week

),

gpus as (

    select
        site_id,
        sum(gpu_count) as installed_gpu_count
    from {{ source("raw", "nodes") }}
    group by site_id

)

select
    figures.*, -- noqa: AM04
    loaded.fully_loaded_cost_per_gpu_hour,
    {{ kpi_incident_columns() }},
    {{ kpi_interruption_indices() }}
from figures
left join loaded
    on
        figures.site_id = loaded.site_id
        and figures.week = loaded.week
left join incidents
    on
        figures.site_id = incidents.site_id
        and figures.week = incidents.week
left join gpus on figures.site_id = gpus.site_id
