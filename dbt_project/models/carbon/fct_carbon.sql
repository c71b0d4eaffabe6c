{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{% set methods = {"location_based": "location", "market_based": "market", "hourly_matched": "hourly_matched"} %}

with

balance as (

    select *
    from {{ ref("fct_energy_balance") }}
    where {{ in_build_dates("utc_date") }}

),

joined as (

    select
        balance.site_id,
        balance.interval_started_at,
        balance.interval_ended_at,
        balance.utc_date,
        balance.local_date,
        balance.local_month,
        balance.week,
        balance.consumption_kwh,
        balance.local_generation_kwh,
        balance.grid_supplied_kwh,
        balance.coverage_ratio,
        {{ to_load_ratio("generation") }} as generation_to_load_ratio,
        {{ to_load_ratio("battery") }} as discharge_to_load_ratio,
        generation.carbon_free_kwh as generation_carbon_free_kwh,
        generation.upstream_g as generation_upstream_g,
        case when generation.site_id is null then 0 else generation.scope_1_g end as scope_1_g,
        {%- for method in methods.values() %}
        discharges.discharge_{{ method }}_g,
        grid.{{ method }}_g_per_kwh,
        {%- endfor %}
        discharges.discharge_carbon_free_kwh,
        grid.carbon_free_ratio as grid_carbon_free_ratio,
        grid.is_factor_estimated
    from balance
    left join {{ ref("int_grid_carbon") }} as grid
        on
            balance.site_id = grid.site_id
            and balance.interval_started_at = grid.interval_started_at
            and {{ in_build_dates("grid.utc_date") }}
    left join {{ ref("int_generation_carbon") }} as generation
        on
            balance.site_id = generation.site_id
            and balance.interval_started_at = generation.interval_started_at
            and {{ in_build_dates("generation.utc_date") }}
    left join {{ ref("calc_site_discharges") }} as discharges
        on
            balance.site_id = discharges.site_id
            and balance.interval_started_at = discharges.interval_started_at
            and {{ in_build_dates("discharges.utc_date") }}

),

weighed as (

    select
        *,
        {%- for name, method in methods.items() %}
        (
            {{ used_times("generation_to_load_ratio", "generation_upstream_g") }}
            + {{ used_times("discharge_to_load_ratio", "discharge_" ~ method ~ "_g") }}
            + {{ used_times("grid_supplied_kwh", method ~ "_g_per_kwh") }}
        ) / 1000 as {{ name }}_kg,
        {%- endfor %}
        {{ used_times("generation_to_load_ratio", "generation_carbon_free_kwh") }}
        + {{ used_times("discharge_to_load_ratio", "discharge_carbon_free_kwh") }}
        + {{ used_times("grid_supplied_kwh", "grid_carbon_free_ratio") }} as carbon_free_kwh
    from joined

)

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    local_date,
    local_month,
    week,
    consumption_kwh,
    {%- for name in methods %}
    round({{ name }}_kg, 9) as {{ name }}_kg,
    {%- endfor %}
    scope_1_g / 1000 as scope_1_kg,
    {%- for name in methods %}
    round({{ name }}_kg, 9) * 1000 / nullif(consumption_kwh, 0) as {{ name }}_g_per_kwh,
    {%- endfor %}
    {{ round_kwh("carbon_free_kwh") }} as carbon_free_kwh,
    {{ round_kwh("carbon_free_kwh") }} / nullif(consumption_kwh, 0) as carbon_free_ratio,
    coalesce(is_factor_estimated, false) as is_factor_estimated,
    coverage_ratio
from weighed
