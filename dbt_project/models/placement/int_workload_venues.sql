with

gpus as (

    select
        site_id,
        gpu_model
    from {{ source("raw", "nodes") }}

    union all

    select
        site_id,
        gpu_model
    from {{ source("raw", "cloud_skus") }}

),

-- Of one GPU whose model is not known the venue's are not known.
venues as (

    select
        sites.site_id,
        sites.venue_kind,
        sites.country_code,
        {{ if_all_known(
            "gpus.gpu_model", "string_agg(distinct gpus.gpu_model, ', ' order by gpus.gpu_model)"
        ) }} as gpu_models
    from {{ source("raw", "sites") }} as sites
    left join gpus on sites.site_id = gpus.site_id
    group by sites.site_id, sites.venue_kind, sites.country_code

),

ruled as (

    select
        workloads.workload_id,
        venues.site_id,
        workloads.criticality,
        workloads.max_deferral_hours,
        venues.venue_kind,
        venues.gpu_models,
        list_contains(workloads.allowed_venues, venues.venue_kind) as is_venue_kind_allowed,
        workloads.allowed_countries is null
        or list_contains(workloads.allowed_countries, venues.country_code) as is_country_allowed,
        workloads.max_latency_ms is null or latencies.latency_ms <= workloads.max_latency_ms as is_latency_allowed
    from {{ source("raw", "workloads") }} as workloads
    cross join venues
    left join {{ source("raw", "workload_latencies") }} as latencies
        on
            workloads.workload_id = latencies.workload_id
            and venues.site_id = latencies.site_id

)

select
    *,
    is_venue_kind_allowed and is_country_allowed and is_latency_allowed as is_venue_allowed
from ruled
