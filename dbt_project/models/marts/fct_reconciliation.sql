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
            and intervals.interval_started_at = telemetry.interval_started_at
    left join {{ ref("fct_energy_balance") }} as balance
        on
            intervals.site_id = balance.site_id
            and intervals.interval_started_at = balance.interval_started_at

)

{# A gap compares two meters only over the intervals in which both saw everything. #}
{% set nodes_seen = "filter (where node_coverage_ratio >= 0.99 and it_kwh is not null)" %}
select
    site_id,
    local_date,
    count(interval_started_at) as interval_count,
    round(sum(gpu_kwh), 6) as gpu_kwh,
    {{ mean_of("gpu_coverage_ratio") }} as gpu_coverage_ratio,
    round(sum(node_kwh), 6) as node_kwh,
    {{ mean_of("node_coverage_ratio") }} as node_coverage_ratio,
    round(sum(it_kwh), 6) as it_kwh,
    round(sum(facility_kwh), 6) as facility_kwh,
    round(sum(consumption_kwh), 6) as consumption_kwh,
    round(sum(grid_import_kwh), 6) as grid_import_kwh,
    round(sum(node_kwh_of_metered_nodes - gpu_kwh_of_metered_nodes), 6) as gpu_to_node_gap_kwh,
    round(sum(it_kwh - node_kwh) {{ nodes_seen }}, 6) as node_to_it_gap_kwh,
    round(sum(it_kwh - node_kwh) {{ nodes_seen }}, 6)
    / nullif(round(sum(it_kwh) {{ nodes_seen }}, 6), 0) as node_to_it_gap_ratio,
    round(sum(facility_kwh - it_kwh), 6) as it_to_facility_gap_kwh,
    round(sum(unaccounted_kwh), 6) as facility_to_supply_gap_kwh,
    round(sum(unaccounted_kwh), 6) / nullif(
        round(sum(consumption_kwh) filter (where unaccounted_kwh is not null), 6), 0
    ) as facility_to_supply_gap_ratio,
    {{ mean_of("meter_coverage_ratio") }} as meter_coverage_ratio
from intervals
group by site_id, local_date
