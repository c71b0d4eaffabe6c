{#
    CTEs that bring the meter readings of a CTE `revisions` to the book's grain: the last, `chosen`, has one row per
    `key` (which begins with meter_id and flow) and 15-minute interval. Where readings of several lengths tell of the
    same time, they tell of one energy. `condition` narrows the UTC dates.
#}
{% macro meter_interval_ctes(key=["meter_id", "flow"], condition="true") -%}
slices as ({{ cut_to_intervals("revisions") }}),

converted as (

    select
        slices.{{ key | join(",\n        slices.") }},
        slices.slice_started_at,
        slices.interval_started_at as reading_started_at,
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
        min(reading_started_at) as reading_started_at,
        duration_s
    from converted
    group by {{ key | join(", ") }}, slice_started_at, duration_s

),

-- Beside each account of an interval the longest of those shorter that tell all of it. Readings of one length that
-- overlap tell nothing.
beside as (

    select
        *,
        coverage_ratio = 1 as is_whole,
        last_value(case when coverage_ratio = 1 then energy_kwh end ignore nulls) over shorter as shorter_kwh,
        last_value(case when coverage_ratio = 1 then revised_at end ignore nulls) over shorter as shorter_revised_at
    from accounts
    window shorter as (
        partition by {{ key | join(", ") }}, interval_started_at
        order by duration_s
        rows between unbounded preceding and 1 preceding
    )

),

-- A long reading against the shorter ones within it: they are one energy.
compared as (

    select
        *,
        {{ exact_sum("energy_kwh", "is_whole", over="reading") }} as reading_kwh,
        count(*) filter (where is_whole) over reading as interval_count,
        coalesce({{ exact_sum("shorter_kwh", over="reading") }}, 0) as shorter_sum_kwh,
        count(shorter_kwh) over reading as shorter_count,
        max(shorter_revised_at) over reading as newest_shorter_revised_at
    from beside
    window reading as (partition by {{ key | join(", ") }}, duration_s, reading_started_at)

),

-- The sum of rounded readings is not quite the rounded sum.
judged as (

    select
        *,
        case
            when shorter_count = interval_count
                then abs(shorter_sum_kwh - reading_kwh) <= 0.001 * reading_kwh + 0.01
            else shorter_sum_kwh <= 1.001 * reading_kwh + 0.01
        end as agrees,
        coalesce(revised_at > newest_shorter_revised_at, true) as is_newer
    from compared

),

-- The shortest account that is whole counts, unless a longer one that contradicts it is newer. What a longer one has
-- beyond the shorter ones is spread evenly over the intervals that they leave open; where it contradicts them and is
-- older, those stay open.
chosen as (

    select
        * replace (
            case
                when agrees and shorter_kwh is null
                    then greatest(reading_kwh - shorter_sum_kwh, 0) / (interval_count - shorter_count)
                else energy_kwh
            end as energy_kwh,
            case when coverage_ratio > 1 or (is_whole and not agrees and not is_newer) then 0 else coverage_ratio end
                as coverage_ratio
        )
    from judged
    where {{ condition }}
    qualify row_number() over (
        partition by {{ key | join(", ") }}, interval_started_at
        order by
            is_whole and not agrees and is_newer desc,
            case when is_whole and not agrees and is_newer then revised_at end desc nulls last,
            is_whole desc,
            case when not is_whole then least(coverage_ratio, 2 - coverage_ratio) end desc nulls last,
            duration_s asc
    ) = 1

)
{%- endmacro %}
