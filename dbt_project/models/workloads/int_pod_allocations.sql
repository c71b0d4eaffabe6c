{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

pods as (

    select *
    from {{ ref("stg_pod_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

-- Rules match a pod's namespace as a job's account. Of pods of several namespaces on one GPU it is not known whose.
namespaces as (

    select distinct
        cluster,
        namespace
    from pods
    where
        namespace is not null
        or not is_shared

),

matched as (

    select
        namespaces.cluster,
        namespaces.namespace,
        arg_min(rules.workload_id, rules.rule_order) as workload_id
    from namespaces
    inner join {{ source("raw", "workload_rules") }} as rules
        on
            rules.cluster in ('*', namespaces.cluster)
            and rules.partition in ('*', '')
            and rules.qos in ('*', '')
            and rules.account in ('*', coalesce(namespaces.namespace, ''))
    group by namespaces.cluster, namespaces.namespace

)

select
    pods.site_id,
    pods.hostname,
    coalesce(matched.workload_id, 'unassigned') as workload_id,
    pods.interval_started_at,
    pods.utc_date,
    round({{ exact_sum("pods.held_s") }}, 6) as allocated_gpu_s,
    round(coalesce({{ exact_sum("pods.held_s", "pods.is_shared") }}, 0), 6) as shared_gpu_s
from pods
left join matched
    on
        pods.cluster = matched.cluster
        and pods.namespace is not distinct from matched.namespace
        and (pods.namespace is not null or not pods.is_shared)
group by
    pods.site_id, pods.hostname, coalesce(matched.workload_id, 'unassigned'), pods.interval_started_at, pods.utc_date
