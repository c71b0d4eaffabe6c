{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

site_intervals as (

    select
        *,
        availability_ratio * committed_it_mw as available_committed_mw,
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
        {{ exact_sum("local_committed_mw") }} as local_committed_mw,
        count(*) filter (where local_committed_mw > 0) as local_site_count,
        count(local_available_committed_mw) as known_local_site_count,
        {{ exact_sum("local_available_committed_mw") }} as local_available_committed_mw,
        bool_and(is_local_available) as is_local_available,
        count(marginal_source) as priced_venue_count,
        -- The next GPU-hour goes where it costs least; constrained only where no venue has one left.
        min(marginal_cost_per_gpu_hour) as marginal_cost_per_gpu_hour,
        arg_min(marginal_source, (marginal_cost_per_gpu_hour, site_id)) filter (
            where marginal_cost_per_gpu_hour is not null
        ) as cheapest_source
    from site_intervals
    group by interval_started_at, utc_date, week

)

select
    interval_started_at,
    utc_date,
    week,
    coverage_ratio,
    effective_it_mw,
    committed_it_mw,
    available_committed_mw / nullif(committed_it_mw, 0) as availability_ratio,
    is_fully_available,
    grid_mw,
    local_mw,
    local_generation_mw,
    local_storage_mw,
    local_committed_mw,
    case
        when local_site_count > 0 and known_local_site_count = local_site_count
            then local_available_committed_mw / local_committed_mw
    end as local_availability_ratio,
    case
        when local_site_count > 0 and known_local_site_count = local_site_count then is_local_available
    end as is_local_available,
    marginal_cost_per_gpu_hour,
    case when priced_venue_count > 0 then coalesce(cheapest_source, 'constrained') end as marginal_source
from sums
