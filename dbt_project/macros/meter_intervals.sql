{#
    CTEs that bring the meter readings of a CTE `revisions` to the book's grain: the last, `chosen`, has one row per
    `key` (which begins with meter_id and flow) and 15-minute interval. `condition` narrows the UTC dates.
#}
{% macro meter_interval_ctes(key=["meter_id", "flow"], condition="true") -%}
slices as ({{ cut_to_intervals("revisions") }}),

converted as (

    select
        slices.{{ key | join(",\n        slices.") }},
        slices.slice_started_at,
        slices.duration_s,
        slices.overlap_s,
        slices.known_at,
        slices.source_file,
        slices.loaded_at,
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
        {{ key | join(",\n        ") }},
        slice_started_at as interval_started_at,
        slice_started_at + interval 15 minutes as interval_ended_at,
        cast(slice_started_at as date) as utc_date,
        {{ exact_sum("energy_kwh") }} as energy_kwh,
        coalesce({{ exact_sum("overlap_s", "energy_kwh is not null") }}, 0) / 900 as coverage_ratio,
        {{ worst_quality("quality") }} as quality,
        bool_or(overlap_s < duration_s) as is_profiled,
        max(known_at) as known_at,
        max_by(source_file, (known_at, source_file)) as source_file,
        max({{ revised_at() }}) as revised_at,
        duration_s
    from converted
    group by {{ key | join(", ") }}, slice_started_at, duration_s

),

chosen as (

    select *
    from accounts
    where {{ condition }}
    qualify row_number() over (
        partition by {{ key | join(", ") }}, interval_started_at
        order by coverage_ratio desc, revised_at desc, duration_s asc
    ) = 1

)
{%- endmacro %}
