with

latest as (

    {# What has ended is newer than what runs, and what ran longer than what ran less, whoever told it when. #}
    {{ latest_revision(
        source("raw", "jobs"),
        ["cluster", "job_id", "submitted_at"],
        newest_first=[
            "ended_at is not null desc",
            "coalesce(ended_at, started_at + to_seconds(elapsed_s)) desc nulls last",
        ]
    ) }}

),

-- A cluster that records GPUs shows them with every job that has some: in the same listing, and from its first such
-- job on.
revisions as (

    select
        *,
        coalesce(
            bool_or(gpu_count is not null) over (partition by cluster, load_id)
            or min(started_at) filter (where gpu_count is not null) over (partition by cluster) <= started_at,
            false
        ) as is_gpu_recorded
    from latest

),

-- Where a cluster records no GPUs: the nodes of the revision that counts, which come from the same row.
job_nodes as (

    select distinct
        job_nodes.cluster,
        job_nodes.job_id,
        job_nodes.submitted_at,
        job_nodes.hostname
    from {{ source("raw", "job_nodes") }} as job_nodes
    inner join revisions
        on
            job_nodes.cluster = revisions.cluster
            and job_nodes.job_id = revisions.job_id
            and job_nodes.submitted_at is not distinct from revisions.submitted_at
            and job_nodes.load_id = revisions.load_id
            and job_nodes.source_row = revisions.source_row
    where
        revisions.gpu_count is null
        and not revisions.is_gpu_recorded

),

node_counts as (

    select
        job_nodes.cluster,
        job_nodes.job_id,
        job_nodes.submitted_at,
        -- What is not declared has no GPUs of the site's.
        cast(coalesce(sum(nodes.gpu_count), 0) as double) as gpu_count
    from job_nodes
    left join {{ source("raw", "nodes") }} as nodes on job_nodes.hostname = nodes.hostname
    group by job_nodes.cluster, job_nodes.job_id, job_nodes.submitted_at

),

matched as (

    select
        revisions.cluster,
        revisions.job_id,
        revisions.submitted_at,
        arg_min(rules.workload_id, rules.rule_order) as workload_id
    from revisions
    inner join {{ source("raw", "workload_rules") }} as rules
        on
            rules.cluster in ('*', revisions.cluster)
            and rules.partition in ('*', coalesce(revisions.partition, ''))
            and rules.qos in ('*', coalesce(revisions.qos, ''))
            and rules.account in ('*', coalesce(revisions.account, ''))
    group by revisions.cluster, revisions.job_id, revisions.submitted_at

),

-- What is known of a job that had not ended yet goes up to the moment of the listing: it had run and been suspended
-- for so long by then.
held as (

    select
        *,
        coalesce(ended_at, started_at + to_seconds(elapsed_s + coalesce(suspended_s, 0))) as held_until_at
    from revisions

)

select
    revisions.cluster,
    revisions.job_id,
    revisions.submitted_at,
    clusters.site_id,
    coalesce(matched.workload_id, 'unassigned') as workload_id,
    coalesce(workloads.criticality, 'tolerant') as criticality,
    revisions.partition,
    revisions.qos,
    revisions.account,
    revisions.user_name,
    revisions.job_name,
    revisions.state,
    revisions.started_at,
    revisions.ended_at,
    case when revisions.started_at is not null then revisions.held_until_at end as held_until_at,
    greatest(
        least(
            revisions.elapsed_s,
            epoch(revisions.held_until_at - revisions.started_at) - coalesce(revisions.suspended_s, 0)
        ), 0
    ) as run_s,
    revisions.node_count,
    coalesce(
        revisions.gpu_count, case when revisions.is_gpu_recorded then 0 else node_counts.gpu_count end
    ) as gpu_count,
    revisions.gpu_count is null and node_counts.gpu_count is not null as is_gpu_count_from_nodes,
    revisions.consumed_energy_j / 3.6e6 as consumed_energy_kwh,
    revisions.comment,
    revisions.known_at,
    revisions.load_id,
    revisions.source_file,
    revisions.source_row
from held as revisions
inner join {{ source("raw", "clusters") }} as clusters
    on
        revisions.cluster = clusters.cluster
        -- Where telemetry tells who held a GPU, jobs would tell it again.
        and clusters.holders is distinct from 'telemetry'
left join matched
    on
        revisions.cluster = matched.cluster
        and revisions.job_id = matched.job_id
        and revisions.submitted_at is not distinct from matched.submitted_at
left join {{ source("raw", "workloads") }} as workloads
    on coalesce(matched.workload_id, 'unassigned') = workloads.workload_id
left join node_counts
    on
        revisions.cluster = node_counts.cluster
        and revisions.job_id = node_counts.job_id
        and revisions.submitted_at is not distinct from node_counts.submitted_at
