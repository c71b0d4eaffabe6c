{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    {{ sum_if_all_known("carbon_free_kwh") }} as carbon_free_kwh,
    {{ sum_if_all_known("scope_1_g") }} as scope_1_g,
    {{ sum_if_all_known("upstream_g") }} as upstream_g
from {{ ref("int_generation_meters") }}
where {{ in_build_dates("utc_date") }}
group by site_id, interval_started_at, interval_ended_at, utc_date
