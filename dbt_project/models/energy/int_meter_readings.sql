{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{# Readings are estimated from those of the same weekday and local time in so many weeks before, and from so many. #}
{% set weeks = 4 %}
{% set fewest_days = 2 %}

with

-- Of the intervals between two reads of a register whose sum is off none is known to be right.
off_register as (

    select distinct
        meter_id,
        flow,
        unnest(
            generate_series(
                {{ interval_start("interval_started_at") }},
                interval_ended_at - interval 1 microsecond,
                interval 15 minutes
            )
        ) as interval_started_at
    from {{ ref("int_register_findings") }}
    where {{ in_build_dates("utc_date", days_before=7 * weeks + 1) }}

),

{% for relation in ["stg_meter_readings", "int_meter_findings"] %}
recent_{{ relation.split("_")[2] }} as (

    select *
    from {{ ref(relation) }}
    where {{ in_build_dates("utc_date", days_before=7 * weeks + 1) }}

),

{% endfor %}
-- What was read, and what never came.
expected as (

    select
        coalesce(readings.meter_id, findings.meter_id) as meter_id,
        coalesce(readings.flow, findings.flow) as flow,
        coalesce(readings.interval_started_at, findings.interval_started_at) as interval_started_at,
        coalesce(readings.interval_ended_at, findings.interval_ended_at) as interval_ended_at,
        coalesce(readings.utc_date, findings.utc_date) as utc_date,
        coalesce(findings.rule_id, 'meter_gap') = 'meter_gap' and off_register.meter_id is null as is_trusted,
        readings.energy_kwh,
        readings.coverage_ratio,
        readings.quality,
        readings.is_estimated,
        readings.is_profiled,
        readings.known_at
    from recent_readings as readings
    full join recent_findings as findings
        on
            readings.meter_id = findings.meter_id
            and readings.flow = findings.flow
            and readings.interval_started_at = findings.interval_started_at
    left join off_register
        on
            readings.meter_id = off_register.meter_id
            and readings.flow = off_register.flow
            and readings.interval_started_at = off_register.interval_started_at

),

trusted as (

    select
        meter_id,
        flow,
        interval_started_at,
        interval_ended_at,
        utc_date,
        case when is_trusted then energy_kwh end as energy_kwh,
        case when is_trusted then coalesce(coverage_ratio, 0) else 0 end as coverage_ratio,
        case when is_trusted then coalesce(quality, 'missing') else 'missing' end as quality,
        is_trusted and coalesce(is_estimated, false) as is_estimated,
        coalesce(is_profiled, false) as is_profiled,
        known_at
    from expected

),

like_days as (

    select
        missing.meter_id,
        missing.flow,
        missing.interval_started_at,
        {{ exact_sum("trusted.energy_kwh") }} / count(trusted.energy_kwh) as energy_kwh
    from trusted as missing
    inner join {{ source("raw", "meters") }} as meters
        on
            missing.meter_id = meters.meter_id
            and missing.flow = meters.flow
            and meters.estimate = 'like_days'
            and {{ is_valid_at("meters", "missing.interval_started_at") }}
    inner join {{ ref("int_site_intervals") }} as intervals
        on
            meters.site_id = intervals.site_id
            and missing.interval_started_at = intervals.interval_started_at
            and {{ in_build_dates("intervals.utc_date") }}
    cross join generate_series(1, {{ weeks }}) as weeks_before (week_count)
    inner join trusted
        on
            missing.meter_id = trusted.meter_id
            and missing.flow = trusted.flow
            and trusted.interval_started_at = (
                missing.interval_started_at at time zone intervals.time_zone - to_weeks(weeks_before.week_count)
            ) at time zone intervals.time_zone
            and trusted.energy_kwh is not null
            and not trusted.is_estimated
    where
        missing.energy_kwh is null
        and {{ in_build_dates("missing.utc_date") }}
    group by missing.meter_id, missing.flow, missing.interval_started_at
    having count(trusted.energy_kwh) >= {{ fewest_days }}

)

select
    trusted.meter_id,
    trusted.flow,
    trusted.interval_started_at,
    trusted.interval_ended_at,
    trusted.utc_date,
    coalesce(trusted.energy_kwh, {{ round_kwh("like_days.energy_kwh") }}) as energy_kwh,
    case when like_days.meter_id is null then trusted.coverage_ratio else 1 end as coverage_ratio,
    case when like_days.meter_id is null then trusted.quality else 'estimated' end as quality,
    like_days.meter_id is not null or trusted.is_estimated as is_estimated,
    like_days.meter_id is not null as is_from_like_days,
    trusted.is_profiled,
    trusted.known_at
from trusted
left join like_days
    on
        trusted.meter_id = like_days.meter_id
        and trusted.flow = like_days.flow
        and trusted.interval_started_at = like_days.interval_started_at
where {{ in_build_dates("trusted.utc_date") }}
