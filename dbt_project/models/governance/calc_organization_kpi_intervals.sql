{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

site_intervals as (

    select
        *,
        availability_ratio * committed_it_mw as available_committed_mw,
        {%- for column in ["headroom_it_mw", "headroom_gpu_count"] %}
        case when {{ column }} > 0 then {{ column }} when {{ column }} <= 0 then 0 end as spare_{{ column }},
        {%- endfor %}
        case when local_committed_mw > 0 then local_availability_ratio * local_committed_mw end
            as local_available_committed_mw
    from {{ ref("calc_site_kpi_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

sums as (

    select
        interval_started_at,
        utc_date,
        week,
        {{ mean_of("case when is_metered then coverage_ratio end") }} as coverage_ratio,
        {%- for column in [
            "effective_it_mw",
            "committed_it_mw",
            "available_committed_mw",
            "spare_headroom_it_mw",
            "spare_headroom_gpu_count",
            "grid_mw",
            "local_mw",
            "local_generation_mw",
            "local_storage_mw",
        ] %}
        {{ sum_of_sites(column) }} as {{ column }},
        {%- endfor %}
        {{ if_all_known(
            "is_fully_available", "bool_and(is_fully_available)", of="count(*) filter (where is_metered)"
        ) }} as is_fully_available,
        {{ mean_of("cast(is_incremental_power_measured as integer)") }} as measured_power_ratio,
        {{ exact_sum("local_committed_mw") }} as local_committed_mw,
        count(*) filter (where local_committed_mw > 0) as local_site_count,
        count(local_available_committed_mw) as known_local_site_count,
        {{ exact_sum("local_available_committed_mw") }} as local_available_committed_mw,
        bool_and(is_local_available) as is_local_available
    from site_intervals
    group by interval_started_at, utc_date, week

)

select
    sums.interval_started_at,
    sums.utc_date,
    sums.week,
    sums.coverage_ratio,
    sums.effective_it_mw,
    sums.committed_it_mw,
    sums.spare_headroom_it_mw as headroom_it_mw,
    sums.spare_headroom_gpu_count as headroom_gpu_count,
    sums.available_committed_mw / nullif(sums.committed_it_mw, 0) as availability_ratio,
    sums.is_fully_available,
    sums.grid_mw,
    sums.local_mw,
    sums.local_generation_mw,
    sums.local_storage_mw,
    sums.local_committed_mw,
    case
        when sums.local_site_count > 0 and sums.known_local_site_count = sums.local_site_count
            then sums.local_available_committed_mw / sums.local_committed_mw
    end as local_availability_ratio,
    case
        when sums.local_site_count > 0 and sums.known_local_site_count = sums.local_site_count
            then sums.is_local_available
    end as is_local_available,
    margins.marginal_cost_per_gpu_hour,
    {%- for source in marginal_sources() %}
    margins.marginal_{{ source }}_ratio,
    {%- endfor %}
    margins.capacity_weighted_cost_per_gpu_hour,
    sums.measured_power_ratio
from sums
left join {{ ref("calc_work_margins") }} as margins
    on
        sums.interval_started_at = margins.interval_started_at
        and {{ in_build_dates("margins.utc_date") }}
