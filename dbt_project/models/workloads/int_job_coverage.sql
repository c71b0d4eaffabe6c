{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{# So much of a site's GPU time may be without a pod that told of it. #}
{% set untold_ratio = 0.1 %}

with

intervals as (

    select
        site_id,
        interval_started_at,
        interval_ended_at,
        utc_date
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

listings as (

    select
        cluster,
        site_id,
        listed_until_at,
        first_started_at,
        first_ended_at,
        lag(listed_until_at) over (
            partition by cluster
            order by listed_until_at
        ) as previous_listed_until_at,
        count(distinct cast(listed_until_at as date)) over (
            partition by cluster
            order by listed_until_at
            range between interval 7 days preceding and current row
        ) as recent_day_count
    from {{ ref("stg_job_listings") }}

),

-- Every job that ran since the listing before is in a listing. Where they came daily, a step of more than a day and a
-- half is a listing that is missing: the next one tells of its own day, and of as long as jobs ended that it has.
reaches as (

    select
        cluster,
        site_id,
        listed_until_at,
        least(
            case
                when previous_listed_until_at is null then first_started_at
                when listed_until_at - previous_listed_until_at <= interval 36 hours then previous_listed_until_at
                when recent_day_count >= 4 then listed_until_at - interval 1 day
                else greatest(previous_listed_until_at, first_started_at)
            end,
            first_ended_at
        ) as listed_from_at
    from listings

),

-- The interval in which a listing was made counts as listed.
listed_spans as (

    select
        cluster,
        site_id,
        {{ interval_start("listed_from_at") }} as started_at,
        {{ interval_end("listed_until_at") }} as ended_at
    from reaches

),

numbered as ({{ number_spans("listed_spans", ["cluster"], "started_at", "ended_at") }}),

spans as (

    select
        cluster,
        site_id,
        min(started_at) as started_at,
        max(ended_at) as ended_at
    from numbered
    group by cluster, site_id, span_number

),

clusters as (

    select
        site_id,
        count(distinct cluster) as cluster_count
    from {{ source("raw", "clusters") }}
    group by site_id

),

listed as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        count(distinct spans.cluster) as cluster_count
    from intervals
    inner join spans
        on
            intervals.site_id = spans.site_id
            and intervals.interval_started_at >= spans.started_at
            and intervals.interval_ended_at <= spans.ended_at
    group by intervals.site_id, intervals.interval_started_at

),

running_jobs as (

    select
        site_id,
        cluster,
        {{ interval_end("held_until_at") }} as seen_until_at
    from {{ ref("stg_jobs") }}
    where
        ended_at is null
        and gpu_count > 0

),

-- A job that still ran in one listing and is not in the next ended at some time between them.
lost_jobs as (

    select distinct
        running_jobs.site_id,
        running_jobs.seen_until_at as started_at,
        case
            when listed_spans.started_at > running_jobs.seen_until_at then listed_spans.started_at
            else listed_spans.ended_at
        end as ended_at
    from running_jobs
    asof inner join listed_spans
        on
            running_jobs.cluster = listed_spans.cluster
            and running_jobs.seen_until_at < listed_spans.ended_at

),

untold_jobs as (

    select
        site_id,
        {{ interval_start("started_at") }} as started_at,
        held_until_at as ended_at
    from {{ ref("stg_jobs") }}
    where gpu_count is null

),

unknown_spans as (

    {% for reason in ["lost", "untold"] %}
    select
        site_id,
        '{{ reason }}' as reason,
        started_at,
        ended_at
    from {{ reason }}_jobs
    {{ "union all" if not loop.last }}
    {% endfor %}

),

unknown as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        min(unknown_spans.reason) as reason
    from intervals
    inner join unknown_spans
        on
            intervals.site_id = unknown_spans.site_id
            and intervals.interval_started_at >= unknown_spans.started_at
            and intervals.interval_started_at < unknown_spans.ended_at
    group by intervals.site_id, intervals.interval_started_at

),

installed as (

    select
        site_id,
        sum(gpu_count) * 900 as installed_gpu_s
    from {{ source("raw", "nodes") }}
    group by site_id

),

allocated as (

    select
        site_id,
        interval_started_at,
        {{ exact_sum("allocated_gpu_s") }} as allocated_gpu_s
    from {{ ref("int_workload_allocations") }}
    where {{ in_build_dates("utc_date") }}
    group by site_id, interval_started_at

),

pods as (

    select
        hostname,
        interval_started_at,
        {{ exact_sum("allocated_gpu_s") }} as allocated_gpu_s
    from {{ ref("int_pod_allocations") }}
    where {{ in_build_dates("utc_date") }}
    group by hostname, interval_started_at

),

pod_clusters as (

    select site_id
    from {{ source("raw", "clusters") }}
    where holders = 'telemetry'

),

-- Of what GPUs did that no sample saw, and of busy time in which no pod held them, it is not known for whom.
watched as (

    select
        node_intervals.site_id,
        node_intervals.interval_started_at,
        {{ exact_sum(
            "least(node_intervals.gpu_count * 900, greatest(node_intervals.covered_s,"
            ~ " coalesce(node_intervals.gpu_busy_s + node_intervals.gpu_idle_s, 0), coalesce(pods.allocated_gpu_s, 0)))"
        ) }} as watched_gpu_s,
        {{ exact_sum("greatest(coalesce(node_intervals.gpu_busy_s, 0) - coalesce(pods.allocated_gpu_s, 0), 0)") }}
            as unheld_gpu_s
    from {{ ref("int_node_intervals") }} as node_intervals
    inner join pod_clusters on node_intervals.site_id = pod_clusters.site_id
    left join pods
        on
            node_intervals.hostname = pods.hostname
            and node_intervals.interval_started_at = pods.interval_started_at
    where {{ in_build_dates("node_intervals.utc_date") }}
    group by node_intervals.site_id, node_intervals.interval_started_at

),

judged as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        intervals.utc_date,
        coalesce(allocated.allocated_gpu_s, 0) as allocated_gpu_s,
        coalesce(installed.installed_gpu_s, 0) as installed_gpu_s,
        case
            when
                pod_clusters.site_id is not null
                then case
                    when
                        coalesce(installed.installed_gpu_s - watched.watched_gpu_s + watched.unheld_gpu_s, 'infinity')
                        > installed.installed_gpu_s * {{ untold_ratio }}
                        then 'pods_not_told'
                    when allocated.allocated_gpu_s > installed.installed_gpu_s * 901 / 900 then 'over_allocated'
                end
            when coalesce(listed.cluster_count < clusters.cluster_count, true) then 'not_listed'
            when unknown.reason = 'lost' then 'job_without_end'
            when unknown.reason = 'untold' then 'gpus_not_told'
            -- A second for every GPU, as starts and ends are told in whole seconds.
            when allocated.allocated_gpu_s > installed.installed_gpu_s * 901 / 900 then 'over_allocated'
        end as unknown_reason
    from intervals
    left join clusters on intervals.site_id = clusters.site_id
    left join pod_clusters on intervals.site_id = pod_clusters.site_id
    left join watched
        on
            intervals.site_id = watched.site_id
            and intervals.interval_started_at = watched.interval_started_at
    left join installed on intervals.site_id = installed.site_id
    left join listed
        on
            intervals.site_id = listed.site_id
            and intervals.interval_started_at = listed.interval_started_at
    left join unknown
        on
            intervals.site_id = unknown.site_id
            and intervals.interval_started_at = unknown.interval_started_at
    left join allocated
        on
            intervals.site_id = allocated.site_id
            and intervals.interval_started_at = allocated.interval_started_at

)

select
    *,
    unknown_reason is null as is_known
from judged
