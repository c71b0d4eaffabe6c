with

billed as (

    select distinct
        invoices.contract_id,
        invoices.local_month,
        invoices.issued_at,
        contracts.plant_meter_id,
        cast(invoices.local_month as timestamp) at time zone contracts.time_zone as started_at,
        cast(invoices.local_month + interval 1 month as timestamp) at time zone contracts.time_zone as ended_at
    from {{ ref("stg_invoices") }} as invoices
    inner join {{ source("raw", "contracts") }} as contracts on invoices.contract_id = contracts.contract_id
    where contracts.plant_meter_id is not null

),

known as (

    select
        billed.contract_id,
        billed.local_month,
        billed.issued_at,
        readings.*
    from billed
    inner join {{ source("raw", "meter_readings") }} as readings
        on
            billed.plant_meter_id = readings.meter_id
            and billed.started_at < readings.interval_ended_at
            and billed.ended_at > readings.interval_started_at
            and billed.issued_at >= readings.known_at
    where readings.flow = 'export'

),

{% set key = ["meter_id", "flow", "contract_id", "local_month", "issued_at"] %}
revisions as (

    {{ latest_revision("known", key + ["interval_started_at", "interval_ended_at"]) }}

),

{{ meter_interval_ctes(key) }}

select
    chosen.contract_id,
    chosen.local_month,
    chosen.issued_at,
    chosen.meter_id,
    chosen.interval_started_at,
    case when chosen.coverage_ratio >= 1 then {{ round_kwh("chosen.energy_kwh") }} end as known_kwh
from chosen
inner join billed
    on
        chosen.contract_id = billed.contract_id
        and chosen.local_month = billed.local_month
        and chosen.issued_at = billed.issued_at
        and chosen.interval_started_at >= billed.started_at
        and chosen.interval_started_at < billed.ended_at
