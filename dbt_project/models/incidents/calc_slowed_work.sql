{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{# What is usual is looked up in the whole month, which begins up to so many days before the days to build. #}
{% set days_before = 31 %}
{# Under a limit that was decided it is what was usual before: in the month of this many days before that. #}
{% set days_before_policy = 14 %}

with

-- Under an order or in an outage operators slow GPUs as they can, and not all of them tell the limit they set.
supply_events as (

    select
        site_id,
        interval_started_at
    from {{ ref("fct_supply_capacity") }}
    where
        (has_grid_outage or curtailment_limit_mw is not null)
        and {{ in_build_dates("utc_date") }}

),

policies as (

    select
        decision_id,
        date_trunc('month', cast(valid_from_at as date) - {{ days_before_policy }}) as usual_month
    from {{ ref("int_power_policies") }}
    where {{ in_build_dates("coalesce(cast(valid_to_at as date), date 'infinity')") }}

),

policy_dates as (

    select distinct
        cast(
            unnest(generate_series(usual_month, usual_month + interval 1 month - interval 1 day, interval 1 day))
            as date
        ) as utc_date
    from policies

),

watched as (

    select
        *,
        date_trunc('month', utc_date) as utc_month
    from {{ ref("int_node_intervals") }}
    where
        gpu_busy_s > 0
        and {{ in_build_dates("utc_date", days_before=days_before) }}

    union all

    select
        *,
        date_trunc('month', utc_date) as utc_month
    from {{ ref("int_node_intervals") }}
    where
        gpu_busy_s > 0
        and not {{ in_build_dates("utc_date", days_before=days_before) }}
        and utc_date in (select policy_dates.utc_date from policy_dates)

),

slowed as (

    select
        watched.*,
        case when watched.power_constrained_s = 0 then watched.power_policy_decision_id end as decision_id,
        coalesce(
            case when watched.power_constrained_s = 0 then policies.usual_month end, watched.utc_month
        ) as usual_month
    from watched
    left join policies on watched.power_policy_decision_id = policies.decision_id
    left join supply_events
        on
            watched.site_id = supply_events.site_id
            and watched.interval_started_at = supply_events.interval_started_at
    where
        {{ in_build_dates("watched.utc_date") }}
        and (
            watched.power_constrained_s > 0
            or watched.power_policy_decision_id is not null
            or (watched.power_capped_s > 0 and supply_events.site_id is not null)
        )

),

slowed_months as (

    select
        hostname,
        utc_month
    from slowed

    union distinct

    select
        hostname,
        usual_month as utc_month
    from slowed

),

slowed_nodes as (

    select
        hostname,
        utc_month,
        cast(cast(utc_month as timestamp) at time zone 'UTC' as timestamptz) as month_started_at,
        cast(cast(utc_month + interval 1 month as timestamp) at time zone 'UTC' as timestamptz) as month_ended_at
    from slowed_months

),

slowed_spans as (

    select distinct
        utc_month,
        month_started_at,
        month_ended_at
    from slowed_nodes

),

-- Made as it stands, lest every node is set against every job of its month.
month_jobs as materialized (

    select
        job_nodes.hostname,
        months.utc_month,
        jobs.workload_id,
        jobs.gpu_count / jobs.node_count as gpu_count,
        greatest(jobs.started_at, months.month_started_at) as interval_started_at,
        least(jobs.held_until_at, months.month_ended_at) as interval_ended_at
    from slowed_spans as months
    inner join {{ ref("stg_jobs") }} as jobs
        on
            months.month_ended_at > jobs.started_at
            and months.month_started_at < jobs.held_until_at
            and jobs.gpu_count > 0
            and jobs.held_until_at > jobs.started_at
    inner join {{ ref("stg_job_nodes") }} as job_nodes
        on
            jobs.load_id = job_nodes.load_id
            and jobs.source_row = job_nodes.source_row

),

-- Who worked on these nodes in the month: their jobs, by the GPUs they held of the node.
node_jobs as (

    select month_jobs.*
    from month_jobs
    semi join slowed_nodes
        on
            month_jobs.hostname = slowed_nodes.hostname
            and month_jobs.utc_month = slowed_nodes.utc_month

),

job_slices as ({{ cut_to_intervals("node_jobs") }}),

holders as (

    select
        hostname,
        workload_id,
        slice_started_at,
        {{ exact_sum("gpu_count * overlap_s") }} as held_gpu_s
    from job_slices
    where slice_started_at in (select watched.interval_started_at from watched)
    group by hostname, workload_id, slice_started_at

    union all

    -- A site's GPUs are held by jobs or by pods.
    select
        hostname,
        workload_id,
        interval_started_at as slice_started_at,
        allocated_gpu_s as held_gpu_s
    from {{ ref("int_pod_allocations") }}
    where interval_started_at in (select watched.interval_started_at from watched)

),

-- Where no job is listed it is nobody's known work that was slowed.
worked as (

    select
        watched.hostname,
        watched.site_id,
        watched.interval_started_at,
        watched.utc_date,
        watched.utc_month,
        coalesce(holders.workload_id, 'unknown') as workload_id,
        watched.gpu_busy_s,
        watched.busy_kwh,
        watched.sm_clock_mhz_s,
        watched.sm_clock_known_s,
        coalesce(holders.held_gpu_s / {{ exact_sum("holders.held_gpu_s", over="node_interval") }}, 1) as share_ratio,
        slowed.hostname is not null as is_slowed,
        slowed.decision_id,
        slowed.usual_month,
        coalesce(watched.power_constrained_s, 0) = 0
        and not coalesce(watched.is_power_limited, false)
        and coalesce(watched.thermal_throttled_s, 0) = 0
        and slowed.hostname is null as is_unhindered
    from watched
    inner join slowed_nodes
        on
            watched.hostname = slowed_nodes.hostname
            and watched.utc_month = slowed_nodes.utc_month
    left join holders
        on
            watched.hostname = holders.hostname
            and watched.interval_started_at = holders.slice_started_at
    left join slowed
        on
            watched.hostname = slowed.hostname
            and watched.interval_started_at = slowed.interval_started_at
    window node_interval as (partition by watched.hostname, watched.interval_started_at)

),

-- Of the same work on the same node, else on the site's other nodes that were slowed: clock and power while busy.
{% for grain, key in [("node", ["hostname"]), ("site", ["site_id"])] %}
unhindered_{{ grain }}s as (

    select
        {{ key[0] }},
        workload_id,
        utc_month,
        {{ exact_sum("sm_clock_mhz_s * share_ratio") }} / nullif({{ exact_sum("sm_clock_known_s * share_ratio") }}, 0)
            as sm_clock_mhz,
        {{ exact_sum("busy_kwh * share_ratio") }}
        / nullif({{ exact_sum("gpu_busy_s * share_ratio", "busy_kwh is not null") }}, 0) * 3.6e6 as busy_w
    from worked
    where is_unhindered
    group by {{ key[0] }}, workload_id, utc_month

),

{% endfor %}
compared as (

    select
        worked.*,
        worked.sm_clock_mhz_s / nullif(worked.sm_clock_known_s, 0)
        / coalesce(unhindered_nodes.sm_clock_mhz, unhindered_sites.sm_clock_mhz) as clock_ratio,
        (worked.busy_kwh / worked.gpu_busy_s * 3.6e6 - nodes.idle_w)
        / nullif(greatest(coalesce(unhindered_nodes.busy_w, unhindered_sites.busy_w) - nodes.idle_w, 0), 0)
            as power_ratio
    from worked
    inner join {{ source("raw", "nodes") }} as nodes on worked.hostname = nodes.hostname
    left join unhindered_nodes
        on
            worked.hostname = unhindered_nodes.hostname
            and worked.workload_id = unhindered_nodes.workload_id
            and worked.usual_month = unhindered_nodes.utc_month
    left join unhindered_sites
        on
            worked.site_id = unhindered_sites.site_id
            and worked.workload_id = unhindered_sites.workload_id
            and worked.usual_month = unhindered_sites.utc_month
    where worked.is_slowed

),

lost as (

    select
        *,
        gpu_busy_s * share_ratio / 3600 as busy_gpu_hours,
        1 - coalesce(clock_ratio, power_ratio) as slowed_by_ratio
    from compared

)

select
    site_id,
    workload_id,
    interval_started_at,
    utc_date,
    decision_id,
    round({{ exact_sum("busy_gpu_hours") }}, 9) as busy_gpu_hours,
    round({{ sum_if_all_known("busy_gpu_hours * greatest(slowed_by_ratio, 0)", known="slowed_by_ratio") }}, 9)
        as lost_gpu_hours
from lost
group by site_id, workload_id, interval_started_at, utc_date, decision_id
