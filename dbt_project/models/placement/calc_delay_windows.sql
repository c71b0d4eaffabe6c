{# A window looks ahead as far as the longest delay. #}
{{ config(
    materialized = "incremental",
    meta = {"day": "to_timestamp(quarter * 900)", "days_before": 7}
) }}

{% set sums = ["avoidable_cost", "marginal_cost", "location_based_g", "measured_quarters"] %}

with

quarters as (

    select
        intervals.site_id,
        cast(epoch(intervals.interval_started_at) as bigint) // 900 as quarter,
        -- Decimals, so that what lies between two running sums is exact.
        cast(intervals.avoidable_cost_per_gpu_hour / 4 as decimal(38, 12)) as avoidable_cost,
        cast(intervals.marginal_cost_per_gpu_hour / 4 as decimal(38, 12)) as marginal_cost,
        cast(intervals.location_based_g_per_gpu_hour / 4 as decimal(38, 12)) as location_based_g,
        cast(intervals.is_incremental_power_measured as integer) as measured_quarters,
        intervals.spare_gpu_hours * 4 as spare_gpu_count
    from {{ ref("calc_venue_intervals") }} as intervals
    semi join {{ source("raw", "clusters") }} as clusters on intervals.site_id = clusters.site_id
    where {{ in_build_dates("intervals.interval_started_at", days_before=7) }}

),

-- Sums of, and number of, known values before and up to each quarter: a window's are what lies between.
running as (

    select
        *,
        {%- for value in sums %}
        coalesce(sum({{ value }}) over before, 0) as {{ value }}_before,
        count({{ value }}) over before as known_{{ value }}_before,
        coalesce(sum({{ value }}) over so_far, 0) as {{ value }}_so_far,
        count({{ value }}) over so_far as known_{{ value }}_so_far,
        {%- endfor %}
        count(spare_gpu_count) over before as known_spare_gpu_count_before,
        count(spare_gpu_count) over so_far as known_spare_gpu_count_so_far
    from quarters
    window
        before as (partition by site_id order by quarter rows between unbounded preceding and 1 preceding),
        so_far as (partition by site_id order by quarter rows between unbounded preceding and current row)

),

-- Where as many quarters of a window are known as it has, the rows that follow are its quarters.
windows as (

    select
        *,
        unnest({{ delay_hours() }}) as delay_hours,
        unnest([
            {% for hours in delay_hours() %}
            min(spare_gpu_count) over next_{{ hours }}_hours{{ "," if not loop.last }}
            {% endfor %}
        ]) as least_spare_gpu_count,
        delay_hours * 4 as quarter_count
    from running
    window
    {% for hours in delay_hours() %}
    next_{{ hours }}_hours as (
        partition by site_id order by quarter rows between current row and {{ 4 * hours - 1 }} following
    ){{ "," if not loop.last }}
    {% endfor %}

),

figures as (

    select
        first_quarters.site_id,
        first_quarters.quarter,
        first_quarters.delay_hours,
        first_quarters.quarter_count,
        first_quarters.spare_gpu_count,
        {%- for value in sums %}
        case
            when
                last_quarters.known_{{ value }}_so_far - first_quarters.known_{{ value }}_before
                = first_quarters.quarter_count
                then last_quarters.{{ value }}_so_far - first_quarters.{{ value }}_before
        end as {{ value }},
        {%- endfor %}
        case
            when
                last_quarters.known_spare_gpu_count_so_far - first_quarters.known_spare_gpu_count_before
                = first_quarters.quarter_count
                then first_quarters.least_spare_gpu_count
        end as least_spare_gpu_count
    from windows as first_quarters
    left join running as last_quarters
        on
            first_quarters.site_id = last_quarters.site_id
            and first_quarters.quarter + first_quarters.quarter_count - 1 = last_quarters.quarter

)

select
    site_id,
    quarter,
    delay_hours,
    {%- for cost in sums[:3] %}
    cast({{ cost }} as double) as {{ cost }},
    {%- endfor %}
    least_spare_gpu_count,
    spare_gpu_count,
    case when measured_quarters in (0, quarter_count) then measured_quarters > 0 end as is_incremental_power_measured
from figures
