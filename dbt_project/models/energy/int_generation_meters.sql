{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

generation as (

    select
        meters.meter_id,
        intervals.site_id,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        readings.energy_kwh,
        {{ kwh_to_mwh("readings.energy_kwh") }} * coalesce(meters.variable_cost_per_mwh, 0)
        * intervals.exchange_rate as generation_cost,
        intervals.currency_code,
        used.value_g_per_kwh,
        direct.value_g_per_kwh > 0 as burns_fuel
    from {{ ref("int_site_intervals") }} as intervals
    inner join {{ source("raw", "meters") }} as meters
        on
            intervals.site_id = meters.site_id
            and meters.role = 'onsite_generation'
            and {{ is_valid_at("meters", "intervals.interval_started_at") }}
    left join {{ ref("int_meter_readings") }} as readings
        on
            meters.meter_id = readings.meter_id
            and meters.flow = readings.flow
            and intervals.interval_started_at = readings.interval_started_at
            and {{ in_build_dates("readings.utc_date") }}
    left join {{ source("raw", "emission_factors") }} as used
        on
            used.kind = 'production_type'
            and not used.is_marginal
            and meters.energy_source = used.energy_source
            and intervals.emission_factor_basis = used.basis
            and {{ is_valid_at("used", "intervals.interval_started_at") }}
    left join {{ source("raw", "emission_factors") }} as direct
        on
            direct.kind = 'production_type'
            and not direct.is_marginal
            and meters.energy_source = direct.energy_source
            and direct.basis = 'direct'
            and {{ is_valid_at("direct", "intervals.interval_started_at") }}
    where {{ in_build_dates("intervals.utc_date") }}

)

select
    meter_id,
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    energy_kwh,
    round(generation_cost, 9) as generation_cost,
    case when burns_fuel then energy_kwh * 0 when not burns_fuel then energy_kwh end as carbon_free_kwh,
    case when burns_fuel then energy_kwh * value_g_per_kwh when not burns_fuel then energy_kwh * 0 end as scope_1_g,
    case when burns_fuel then energy_kwh * 0 when not burns_fuel then energy_kwh * value_g_per_kwh end as upstream_g,
    currency_code
from generation
