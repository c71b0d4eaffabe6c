{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

-- A sensor that slept through part of the interval counted less than the GPUs did, and is not wrong for it.
seen as (

    select
        node_intervals.*,
        nodes.gpu_count * nodes.peak_w + nodes.host_peak_w as rated_w
    from {{ ref("stg_node_intervals") }} as node_intervals
    inner join {{ source("raw", "nodes") }} as nodes on node_intervals.hostname = nodes.hostname
    where
        node_intervals.node_covered_s >= 855
        and {{ in_build_dates("node_intervals.utc_date") }}

),

broken as (

    select
        *,
        case
            when node_kwh < 0 or node_kwh > {{ var("finding_tolerances")["range_factor"] }} * rated_w / 4000
                then 'node_range'
            when node_kwh < gpu_kwh * (1 - {{ var("finding_tolerances")["telemetry_ratio"] }}) then 'node_below_gpus'
        end as rule_id
    from seen

)

select
    rule_id,
    site_id,
    'node' as subject_kind,
    hostname as subject_id,
    hostname,
    interval_started_at,
    interval_ended_at,
    utc_date,
    node_kwh as value,
    case
        when rule_id = 'node_range'
            then
                '0 to ' || round({{ var("finding_tolerances")["range_factor"] }} * rated_w / 4000, 3)
                || ' kWh: {{ var("finding_tolerances")["range_factor"] }} times the power of its models'
        else 'no less than the ' || round(gpu_kwh, 3) || ' kWh of its GPUs'
    end as expected
from broken
where rule_id is not null

union all

-- Of its boards' energy counters: one that stands still gives way to the power, and one that the power contradicts
-- leaves the energy of the board unknown.
{% set doubts = {
    "gpu_counter_stands_still": (
        "counter_stood_still_s", "energy counters that move: some stood still for ",
    ),
    "gpu_energy_contradicted": (
        "energy_contradicted_s", "energy counters that agree with the power of their boards: some do not for ",
    ),
} %}
{% for rule_id, (seconds, expected) in doubts.items() %}
select
    '{{ rule_id }}' as rule_id,
    site_id,
    'node' as subject_kind,
    hostname as subject_id,
    hostname,
    interval_started_at,
    interval_ended_at,
    utc_date,
    energy_from_power_kwh as value,
    '{{ expected }}' || round({{ seconds }} / 60, 1) || ' GPU minutes' as expected
from {{ ref("stg_node_intervals") }}
where
    {{ seconds }} > 0
    and {{ in_build_dates("utc_date") }}
{{ "union all" if not loop.last }}
{% endfor %}
