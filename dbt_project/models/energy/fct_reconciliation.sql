{{ config(materialized = "incremental", meta = {"day": "local_date", "days_before": 1}) }}

with

intervals as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        intervals.local_date,
        telemetry.gpu_kwh,
        telemetry.node_kwh,
        telemetry.gpu_kwh_of_metered_nodes,
        telemetry.node_kwh_of_metered_nodes,
        coalesce(telemetry.gpu_coverage_ratio, 0) as gpu_coverage_ratio,
        coalesce(telemetry.node_coverage_ratio, 0) as node_coverage_ratio,
        balance.it_kwh,
        balance.facility_kwh,
        balance.consumption_kwh,
        balance.grid_import_kwh,
        balance.unaccounted_kwh,
        balance.coverage_ratio as meter_coverage_ratio
    from {{ ref("int_site_intervals") }} as intervals
    left join {{ ref("int_site_telemetry_intervals") }} as telemetry
        on
            intervals.site_id = telemetry.site_id
            and intervals.utc_date = telemetry.utc_date
            and intervals.interval_started_at = telemetry.interval_started_at
    left join {{ ref("fct_energy_balance") }} as balance
        on
            intervals.site_id = balance.site_id
            and intervals.utc_date = balance.utc_date
            and intervals.interval_started_at = balance.interval_started_at
    where
        {{ in_build_dates("intervals.local_date", days_before=1) }}
        and {{ in_build_dates("intervals.utc_date", days_before=3) }}

)

{# A gap compares two meters only over the intervals in which both saw everything. #}
{% set nodes_seen = "node_coverage_ratio >= 0.99 and it_kwh is not null" %}
select
    site_id,
    local_date,
    count(interval_started_at) as interval_count,
    {{ exact_sum("gpu_kwh") }} as gpu_kwh,
    {{ mean_of("gpu_coverage_ratio") }} as gpu_coverage_ratio,
    {{ exact_sum("node_kwh") }} as node_kwh,
    {{ mean_of("node_coverage_ratio") }} as node_coverage_ratio,
    {{ exact_sum("it_kwh") }} as it_kwh,
    {{ exact_sum("facility_kwh") }} as facility_kwh,
    {{ exact_sum("consumption_kwh") }} as consumption_kwh,
    {{ exact_sum("grid_import_kwh") }} as grid_import_kwh,
    {{ exact_sum("node_kwh_of_metered_nodes - gpu_kwh_of_metered_nodes") }} as gpu_to_node_gap_kwh,
    {{ exact_sum("it_kwh - node_kwh", nodes_seen) }} as node_to_it_gap_kwh,
    {{ exact_sum("it_kwh - node_kwh", nodes_seen) }}
    / nullif({{ exact_sum("it_kwh", nodes_seen) }}, 0) as node_to_it_gap_ratio,
    {{ exact_sum("facility_kwh - it_kwh") }} as it_to_facility_gap_kwh,
    {{ exact_sum("unaccounted_kwh") }} as facility_to_supply_gap_kwh,
    {{ exact_sum("unaccounted_kwh") }} / nullif(
        {{ exact_sum("consumption_kwh", "unaccounted_kwh is not null") }}, 0
    ) as facility_to_supply_gap_ratio,
    {{ mean_of("meter_coverage_ratio") }} as meter_coverage_ratio
from intervals
group by site_id, local_date
