{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

revisions as (

    {{ latest_revision(
        source("raw", "meter_readings"),
        ["meter_id", "flow", "interval_started_at", "interval_ended_at"],
        in_build_dates("interval_ended_at", days_before=2)
    ) }}

),

{{ meter_interval_ctes(condition=in_build_dates("utc_date")) }}

select
    meter_id,
    flow,
    interval_started_at,
    interval_ended_at,
    utc_date,
    case when coverage_ratio >= 1 then {{ round_kwh("energy_kwh") }} end as energy_kwh,
    coverage_ratio,
    case when coverage_ratio >= 1 then quality else 'missing' end as quality,
    coverage_ratio >= 1 and quality in ('estimated', 'substituted') as is_estimated,
    is_profiled,
    known_at,
    source_file
from chosen
