{{ config(materialized = "incremental", meta = {"is_rewritten": true}) }}

with

intervals as (

    select
        intervals.*,
        {{ expected_intervals(
            "cast(intervals.local_date as timestamp)", "cast(intervals.local_date + 1 as timestamp)", "sites.time_zone"
        ) }} as expected_interval_count
    from {{ ref("calc_site_kpi_intervals") }} as intervals
    inner join {{ source("raw", "sites") }} as sites
        on
            intervals.site_id = sites.site_id
            and {{ is_valid_at("sites", "intervals.interval_started_at") }}
    where {{ in_build_dates("intervals.local_date", days_before=1) }}

),

figures as (

    select
        site_id,
        local_date,
        {{ kpi_supply_aggregates() }},
        {{ kpi_energy_aggregates() }}
    from intervals
    group by site_id, local_date
    {{ union_kept(in_build_dates("local_date", days_before=1), kpi_joined_columns()) }}

),

loaded as (

    select
        site_id,
        local_date,
        {{ kpi_loaded_cost() }}
    from ({{ kpi_loaded_days() }})
    group by site_id, local_date

),

incidents as (

    select
        site_id,
        local_date,
        {{ kpi_incident_aggregates() }}
    from {{ ref("calc_incident_intervals") }}
    group by site_id, local_date

)

select
    figures.*, -- noqa: AM04
    loaded.fully_loaded_cost_per_gpu_hour,
    {{ kpi_incident_columns() }}
from figures
left join loaded
    on
        figures.site_id = loaded.site_id
        and figures.local_date = loaded.local_date
left join incidents
    on
        figures.site_id = incidents.site_id
        and figures.local_date = incidents.local_date
