{{ config(materialized = "incremental", meta = {"is_rewritten": true}) }}

with

intervals as ({{ kpi_week_intervals(ref("calc_organization_kpi_intervals")) }}),

supply as (

    select
        week,
        {{ kpi_supply_aggregates("marginal_{}_ratio", "measured_power_ratio") }},
        {{ mean_of("capacity_weighted_cost_per_gpu_hour") }} as capacity_weighted_cost_per_gpu_hour
    from intervals
    group by week

),

energy as (

    select
        week,
        {{ kpi_energy_aggregates() }}
    from {{ ref("calc_site_kpi_intervals") }}
    where {{ in_build_weeks() }}
    group by week

),

figures as (

    select
        supply.*,
        energy.* exclude (week) -- noqa: RF02
    from supply
    inner join energy on supply.week = energy.week
    {{ union_kept(in_build_weeks(), "organization_id, " ~ kpi_joined_columns(has_indices=true)) }}

),

loaded as (

    select
        week,
        {{ kpi_loaded_cost() }}
    from (
        select
            week,
            local_date,
            {{ sum_if_all_known("fully_loaded_cost") }} as fully_loaded_cost,
            {{ exact_sum("allocated_gpu_hours") }} as allocated_gpu_hours
        from ({{ kpi_loaded_days() }})
        group by week, local_date
    )
    group by week

),

incidents as (

    select
        week,
        {{ kpi_incident_aggregates() }}
    from {{ ref("calc_incident_intervals") }}
    group by week

),

gpus as (

    select sum(gpu_count) as installed_gpu_count
    from {{ source("raw", "nodes") }}

)

select
    organization.organization_id,
    figures.*, -- noqa: AM04
    loaded.fully_loaded_cost_per_gpu_hour,
    {{ kpi_incident_columns() }},
    {{ kpi_interruption_indices() }}
from figures
cross join {{ source("raw", "organization") }} as organization
left join loaded on figures.week = loaded.week
left join incidents on figures.week = incidents.week
cross join gpus
