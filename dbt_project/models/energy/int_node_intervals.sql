{# A view, as what it reads. #}
{{ config(materialized = "view") }}

select
    node_intervals.hostname,
    node_intervals.site_id,
    node_intervals.gpu_count,
    node_intervals.interval_started_at,
    node_intervals.interval_ended_at,
    node_intervals.utc_date,
    node_intervals.gpu_kwh,
    case when findings.rule_id is null then node_intervals.node_kwh end as node_kwh,
    node_intervals.energy_from_power_kwh,
    node_intervals.busy_kwh,
    node_intervals.idle_kwh,
    node_intervals.gpu_count_reporting,
    node_intervals.gpu_busy_s,
    node_intervals.gpu_idle_s,
    node_intervals.thermal_throttled_s,
    node_intervals.power_limited_s,
    node_intervals.power_limit_ratio_s,
    node_intervals.power_braked_s,
    node_intervals.sm_clock_mhz_s,
    node_intervals.sm_clock_known_s,
    node_intervals.counter_stood_still_s,
    node_intervals.energy_contradicted_s,
    node_intervals.covered_s,
    case when findings.rule_id is null then node_intervals.node_covered_s else 0 end as node_covered_s,
    node_intervals.coverage_ratio
from {{ ref("stg_node_intervals") }} as node_intervals
left join {{ ref("int_node_findings") }} as findings
    on
        node_intervals.hostname = findings.hostname
        and node_intervals.interval_started_at = findings.interval_started_at
        and findings.rule_id in ('node_range', 'node_below_gpus')
