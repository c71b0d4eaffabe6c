{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    case when count(carbon_free_kwh) = count(*) then round(sum(carbon_free_kwh), 6) end as carbon_free_kwh,
    case when count(scope_1_g) = count(*) then round(sum(scope_1_g), 6) end as scope_1_g,
    case when count(upstream_g) = count(*) then round(sum(upstream_g), 6) end as upstream_g
from {{ ref("int_generation_meters") }}
where {{ in_build_dates("utc_date") }}
group by site_id, interval_started_at, interval_ended_at, utc_date
