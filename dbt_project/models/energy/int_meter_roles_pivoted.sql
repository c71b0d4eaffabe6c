{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

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
    left join {{ ref("int_meter_readings") }} as readings
        on
            meters.meter_id = readings.meter_id
            and meters.flow = readings.flow
            and intervals.interval_started_at = readings.interval_started_at
            and {{ in_build_dates("readings.utc_date") }}
    where {{ in_build_dates("intervals.utc_date") }}

    {% for role, energy in {"battery_charge": "charge", "battery_discharge": "discharge"}.items() %}
    -- A battery exists whether it is metered or not: its own power stands in, as an estimate.
    union all

    select
        site_id,
        interval_started_at,
        interval_ended_at,
        utc_date,
        '{{ role }}' as role,
        {{ energy }}_kwh as energy_kwh,
        true as is_estimated,
        false as is_profiled
    from {{ ref("int_battery_intervals") }}
    where
        not is_{{ energy }}_metered
        and {{ in_build_dates("utc_date") }}

    {% endfor %}
),

pivoted as (

    select
        site_id,
        interval_started_at,
        interval_ended_at,
        utc_date,
        {{ role_energies() }},
        count(*) filter (where role = 'grid_import') > 0 as has_grid_meter,
        count(*) filter (where role = 'it_load') > 0 as has_it_meter,
        count(*) filter (where role = 'facility_total') > 0 as has_facility_meter,
        count(energy_kwh) / count(*) as coverage_ratio,
        count(*) filter (where is_estimated) / count(*) as estimated_ratio,
        bool_or(is_profiled) as is_profiled
    from expected
    group by site_id, interval_started_at, interval_ended_at, utc_date

)

select
    *,
    {{ round_kwh(taken_in()) }} as consumption_kwh
from pivoted
