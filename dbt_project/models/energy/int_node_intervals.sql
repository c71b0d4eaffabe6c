{# A view, as what it reads. #}
{{ config(materialized = "view", meta = {"day": "utc_date"}) }}

{#
    From this share of its own limit on a board is at that: nobody limited it. The peak power of a model says less closely
    what limit its boards come with. What is decided is met as closely as the own limit.
#}
{% set own_limit_ratio = 0.99 %}
{% set model_limit_ratio = 0.9 %}
{% set rounding_ratio = 0.01 %}

with

limited as (

    select
        node_intervals.*,
        -- Boards that do not tell the limit they come with come with the peak power of their model.
        (node_intervals.power_limit_w_s / nullif(node_intervals.power_limit_known_s, 0))
        / coalesce(node_intervals.default_power_limit_w_s / nullif(node_intervals.power_limit_known_s, 0), nodes.peak_w)
            as power_limit_ratio,
        case
            when node_intervals.default_power_limit_w_s > 0 then {{ own_limit_ratio }}
            else {{ model_limit_ratio }}
        end > power_limit_ratio as is_power_limited
    from {{ ref("stg_node_intervals") }} as node_intervals
    inner join {{ source("raw", "nodes") }} as nodes on node_intervals.hostname = nodes.hostname

)

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
    node_intervals.power_capped_s,
    node_intervals.power_limit_ratio,
    node_intervals.is_power_limited,
    case
        when
            node_intervals.is_power_limited
            and policies.power_limit_ratio - {{ rounding_ratio }} <= node_intervals.power_limit_ratio
            then policies.decision_id
    end as power_policy_decision_id,
    least(
        coalesce(node_intervals.power_braked_s, 0)
        + case
            when
                node_intervals.is_power_limited
                and coalesce(policies.power_limit_ratio - {{ rounding_ratio }} > node_intervals.power_limit_ratio, true)
                then node_intervals.power_capped_s
            else 0
        end, node_intervals.gpu_busy_s
    ) as power_constrained_s,
    node_intervals.thermal_throttled_s,
    node_intervals.sm_clock_mhz_s,
    node_intervals.sm_clock_known_s,
    node_intervals.covered_s,
    case when findings.rule_id is null then node_intervals.node_covered_s else 0 end as node_covered_s,
    node_intervals.coverage_ratio
from limited as node_intervals
left join {{ ref("int_power_policies") }} as policies
    on
        node_intervals.site_id = policies.site_id
        and {{ is_valid_at("policies", "node_intervals.interval_started_at") }}
left join {{ ref("int_node_findings") }} as findings
    on
        node_intervals.hostname = findings.hostname
        and node_intervals.interval_started_at = findings.interval_started_at
        and findings.rule_id in ('node_range', 'node_below_gpus')
