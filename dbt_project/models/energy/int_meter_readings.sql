{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

select
    readings.meter_id,
    readings.flow,
    readings.interval_started_at,
    readings.interval_ended_at,
    readings.utc_date,
    case when findings.rule_id is null then readings.energy_kwh end as energy_kwh,
    case when findings.rule_id is null then readings.coverage_ratio else 0 end as coverage_ratio,
    case when findings.rule_id is null then readings.quality else 'missing' end as quality,
    findings.rule_id is null and readings.is_estimated as is_estimated,
    readings.is_profiled,
    readings.known_at
from {{ ref("stg_meter_readings") }} as readings
left join {{ ref("int_meter_findings") }} as findings
    on
        readings.meter_id = findings.meter_id
        and readings.flow = findings.flow
        and readings.interval_started_at = findings.interval_started_at
        and findings.rule_id <> 'meter_gap'
        and {{ in_build_dates("findings.utc_date") }}
where {{ in_build_dates("readings.utc_date") }}
