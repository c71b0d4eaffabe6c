with

readings as (

    select
        meter_id,
        flow,
        min(interval_started_at) as first_reading_at,
        max(interval_ended_at) as last_reading_at
    from {{ ref("int_meter_readings") }}
    where energy_kwh is not null
    group by meter_id, flow

)

select
    meters.meter_id,
    meters.flow,
    meters.site_id,
    meters.role,
    meters.accuracy_class,
    meters.multiplier as multiplier_ratio,
    meters.energy_source,
    meters.battery_id,
    meters.contract_id,
    meters.valid_from_at,
    meters.valid_to_at,
    readings.first_reading_at,
    readings.last_reading_at
from {{ source("raw", "meters") }} as meters
left join readings
    on
        meters.meter_id = readings.meter_id
        and meters.flow = readings.flow
