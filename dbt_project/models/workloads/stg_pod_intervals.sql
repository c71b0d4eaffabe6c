{# A view: the roll-up is already one file per day, and has a row for each GPU that pods held. #}
{{ config(materialized = "view", meta = {"day": "utc_date"}) }}

select
    pod_intervals.hostname,
    pod_intervals.gpu_index,
    nodes.site_id,
    clusters.cluster,
    pod_intervals.namespace,
    pod_intervals.pod,
    pod_intervals.is_shared,
    pod_intervals.interval_started_at,
    pod_intervals.utc_date,
    pod_intervals.held_s
from {{ source("raw", "pod_intervals") }} as pod_intervals
inner join {{ source("raw", "nodes") }} as nodes on pod_intervals.hostname = nodes.hostname
inner join {{ source("raw", "clusters") }} as clusters on nodes.site_id = clusters.site_id
where clusters.holders = 'telemetry'
