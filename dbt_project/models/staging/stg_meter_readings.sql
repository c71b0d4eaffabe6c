{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

revisions as (

    {{ latest_revision(
        source("raw", "meter_readings"),
        ["meter_id", "flow", "interval_started_at"],
        in_build_dates("interval_ended_at")
    ) }}

),

slices as ({{ cut_to_intervals("revisions") }}),

converted as (

    select
        slices.meter_id,
        slices.flow,
        slices.slice_started_at,
        slices.duration_s,
        slices.overlap_s,
        slices.known_at,
        slices.quality,
        {{ to_kwh("slices.quantity * meters.multiplier", "slices.unit") }}
        * slices.overlap_s / slices.duration_s as energy_kwh
    from slices
    inner join {{ source("raw", "meters") }} as meters
        on
            slices.meter_id = meters.meter_id
            and slices.flow = meters.flow
            and {{ is_valid_at("meters", "slices.slice_started_at") }}

),

-- Readings of one length make up one account of the interval; two lengths are two accounts, never added.
accounts as (

    select
        meter_id,
        flow,
        slice_started_at as interval_started_at,
        slice_started_at + interval 15 minutes as interval_ended_at,
        cast(slice_started_at as date) as utc_date,
        sum(energy_kwh) as energy_kwh,
        coalesce(sum(overlap_s) filter (where energy_kwh is not null), 0) / 900 as coverage_ratio,
        {{ worst_quality("quality") }} as quality,
        bool_or(overlap_s < duration_s) as is_profiled,
        max(known_at) as known_at,
        duration_s
    from converted
    group by meter_id, flow, slice_started_at, duration_s

),

chosen as (

    select *
    from accounts
    where {{ in_build_dates("utc_date") }}
    qualify row_number() over (
        partition by meter_id, flow, interval_started_at
        order by coverage_ratio desc, known_at desc, duration_s asc
    ) = 1

)

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
    known_at
from chosen
