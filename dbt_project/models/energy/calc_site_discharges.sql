{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

select
    site_id,
    interval_started_at,
    utc_date,
    {{ sum_if_all_known("discharge_cost") }} as discharge_cost,
    {% for method in ["location", "market", "hourly_matched"] -%}
    {{ sum_if_all_known("discharge_" ~ method ~ "_g") }} as discharge_{{ method }}_g,
    {% endfor -%}
    -- Standing losses leave the stock's clean share above one: no more comes out than is discharged.
    {{ sum_if_all_known(
        "least(discharge_carbon_free_kwh, discharge_kwh)", known="discharge_carbon_free_kwh"
    ) }} as discharge_carbon_free_kwh
from {{ ref("fct_battery_ledger") }}
where {{ in_build_dates("utc_date") }}
group by site_id, interval_started_at, utc_date
