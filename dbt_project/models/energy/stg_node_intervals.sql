{# A view: the roll-up is already one file per day, and the only table that grows with the number of nodes. #}
{{ config(materialized = "view", meta = {"day": "utc_date"}) }}

select
    node_intervals.hostname,
    nodes.site_id,
    nodes.gpu_count,
    node_intervals.interval_started_at,
    node_intervals.interval_started_at + interval 15 minutes as interval_ended_at,
    node_intervals.utc_date,
    {{ round_kwh("node_intervals.gpu_kwh") }} as gpu_kwh,
    {{ round_kwh("node_intervals.node_kwh") }} as node_kwh,
    {{ round_kwh("node_intervals.energy_from_power_kwh") }} as energy_from_power_kwh,
    {{ round_kwh("node_intervals.busy_kwh") }} as busy_kwh,
    {{ round_kwh("node_intervals.idle_kwh") }} as idle_kwh,
    node_intervals.gpu_count_reporting,
    node_intervals.gpu_busy_s,
    node_intervals.gpu_idle_s,
    node_intervals.thermal_throttled_s,
    node_intervals.power_capped_s,
    node_intervals.power_limit_w_s,
    node_intervals.power_limit_known_s,
    node_intervals.default_power_limit_w_s,
    node_intervals.power_braked_s,
    node_intervals.sm_clock_mhz_s,
    node_intervals.sm_clock_known_s,
    node_intervals.counter_stood_still_s,
    node_intervals.energy_contradicted_s,
    node_intervals.covered_s,
    node_intervals.node_covered_s,
    least(1, node_intervals.covered_s / (900 * nodes.gpu_count)) as coverage_ratio
from {{ source("raw", "node_intervals") }} as node_intervals
inner join {{ source("raw", "nodes") }} as nodes on node_intervals.hostname = nodes.hostname
