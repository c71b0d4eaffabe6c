{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

{# A flow no meter is declared for does not exist at the site; a load without meter is not known. #}
{% set roles = {
    "grid_import": none,
    "grid_export": 0,
    "onsite_generation": 0,
    "battery_charge": 0,
    "battery_discharge": 0,
    "it_load": none,
    "cooling_load": none,
    "facility_total": none,
} %}

with

expected as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        meters.role,
        readings.energy_kwh,
        coalesce(readings.is_estimated, false) as is_estimated,
        coalesce(readings.is_profiled, false) as is_profiled
    from {{ ref("int_site_intervals") }} as intervals
    inner join {{ source("raw", "meters") }} as meters
        on
            intervals.site_id = meters.site_id
            and {{ is_valid_at("meters", "intervals.interval_started_at") }}
            and meters.role <> 'ppa_generation'
    left join {{ ref("stg_meter_readings") }} as readings
        on
            meters.meter_id = readings.meter_id
            and meters.flow = readings.flow
            and intervals.interval_started_at = readings.interval_started_at
            and {{ in_build_dates("readings.utc_date") }}
    where {{ in_build_dates("intervals.utc_date") }}

)

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    {% for role, otherwise in roles.items() %}
    {{ sum_if_all_known("energy_kwh", condition="role = '" ~ role ~ "'", empty=otherwise) }} as {{ role }}_kwh,
    {% endfor %}
    count(energy_kwh) / count(*) as coverage_ratio,
    count(*) filter (where is_estimated) / count(*) as estimated_ratio,
    bool_or(is_profiled) as is_profiled
from expected
group by site_id, interval_started_at, interval_ended_at, utc_date
