{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

-- An answer may hold direct or life-cycle factors alone: it replaces what it says, and leaves the other as it was.
versions as (

    select
        zone,
        interval_started_at,
        interval_ended_at,
        first_value(direct_g_per_kwh ignore nulls) over back_in_time as direct_g_per_kwh,
        first_value(life_cycle_g_per_kwh ignore nulls) over back_in_time as life_cycle_g_per_kwh,
        first_value(carbon_free_ratio ignore nulls) over back_in_time as carbon_free_ratio,
        first_value(renewable_ratio ignore nulls) over back_in_time as renewable_ratio,
        is_estimated,
        data_source,
        known_at,
        loaded_at,
        load_number,
        source_row
    from {{ source("raw", "grid_carbon") }}
    where
        {{ known_at_as_of() }}
        and {{ in_build_dates("interval_ended_at") }}
    window back_in_time as (
        partition by zone, interval_started_at, interval_ended_at
        order by {{ by_revision() }}
        rows between current row and unbounded following
    )

),

revisions as ({{ latest_revision("versions", ["zone", "interval_started_at", "interval_ended_at"]) }}),

slices as ({{ cut_to_intervals("revisions") }}),

-- A mean passes over nulls: of an interval in part of which a figure is missing it is not known.
accounts as (

    select
        zone,
        slice_started_at as interval_started_at,
        slice_started_at + interval 15 minutes as interval_ended_at,
        cast(slice_started_at as date) as utc_date,
        {%- for figure in ["direct_g_per_kwh", "life_cycle_g_per_kwh", "carbon_free_ratio", "renewable_ratio"] %}
        {{ if_all_known(figure, weighted_mean(figure, "overlap_s")) }} as {{ figure }},
        {%- endfor %}
        bool_or(is_estimated) as is_estimated,
        max(data_source) as data_source,
        {{ exact_sum("overlap_s") }} / 900 as coverage_ratio,
        bool_or(overlap_s < duration_s) as is_profiled,
        max(known_at) as known_at,
        max({{ revised_at() }}) as revised_at,
        duration_s
    from slices
    group by zone, slice_started_at, duration_s

)

select
    zone,
    interval_started_at,
    interval_ended_at,
    utc_date,
    direct_g_per_kwh,
    life_cycle_g_per_kwh,
    carbon_free_ratio,
    renewable_ratio,
    is_estimated,
    is_profiled,
    data_source,
    known_at
from accounts
where
    coverage_ratio >= 1
    and {{ in_build_dates("utc_date") }}
qualify row_number() over (partition by zone, interval_started_at order by revised_at desc, duration_s asc) = 1
