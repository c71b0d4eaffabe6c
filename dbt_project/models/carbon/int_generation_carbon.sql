{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    case when count(carbon_free_kwh) = count(*) then {{ exact_sum("carbon_free_kwh") }} end as carbon_free_kwh,
    case when count(scope_1_g) = count(*) then {{ exact_sum("scope_1_g") }} end as scope_1_g,
    case when count(upstream_g) = count(*) then {{ exact_sum("upstream_g") }} end as upstream_g
from {{ ref("int_generation_meters") }}
where {{ in_build_dates("utc_date") }}
group by site_id, interval_started_at, interval_ended_at, utc_date
