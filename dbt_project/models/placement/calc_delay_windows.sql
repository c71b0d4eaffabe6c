with

quarters as (

    select
        intervals.site_id,
        cast(epoch(intervals.interval_started_at) as bigint) // 900 as quarter,
        intervals.avoidable_cost_per_gpu_hour / 4 as avoidable_cost,
        intervals.marginal_cost_per_gpu_hour / 4 as marginal_cost,
        intervals.location_based_g_per_gpu_hour / 4 as location_based_g,
        intervals.spare_gpu_hours * 4 as spare_gpu_count,
        cast(intervals.is_incremental_power_measured as integer) as is_measured
    from {{ ref("calc_venue_intervals") }} as intervals
    semi join {{ source("raw", "clusters") }} as clusters on intervals.site_id = clusters.site_id

)

{% for hours in delay_hours() %}
select
    site_id,
    quarter,
    {{ hours }} as delay_hours,
    {%- for cost in ["avoidable_cost", "marginal_cost", "location_based_g"] %}
    case when count({{ cost }}) over ahead = {{ 4 * hours }} then {{ exact_sum(cost, over="ahead") }} end as {{ cost }},
    {%- endfor %}
    case when count(spare_gpu_count) over ahead = {{ 4 * hours }} then min(spare_gpu_count) over ahead end
        as least_spare_gpu_count,
    spare_gpu_count,
    case when min(is_measured) over ahead = max(is_measured) over ahead then min(is_measured) over ahead = 1 end
        as is_incremental_power_measured
from quarters
window
    ahead as (
        partition by site_id order by quarter range between current row and {{ 4 * hours - 1 }} following
    )
{{ "union all" if not loop.last }}
{% endfor %}
