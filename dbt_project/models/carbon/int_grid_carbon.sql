{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

volumes as (

    select *
    from {{ ref("int_clean_volumes") }}
    where {{ in_build_dates("utc_date") }}

),

factors as (

    select *
    from {{ source("raw", "emission_factors") }}
    where not is_marginal

),

-- A market-based share is that of the whole local month.
monthly as (

    select
        site_id,
        local_month,
        import_kwh,
        case when certificate_kwh = 0 then 0 else certificate_kwh / import_kwh end as certificate_ratio,
        round(clean_kwh + certificate_kwh, 6) as clean_kwh,
        round(clean_g + certificate_g, 6) as clean_g
    from {{ ref("int_certificate_months") }}

),

hourly as (

    select
        site_id,
        hour_started_at,
        import_kwh,
        round(clean_kwh + certificate_kwh, 6) as clean_kwh,
        round(clean_g + certificate_g, 6) as clean_g
    from {{ ref("int_certificate_hours") }}
    where {{ in_build_dates("utc_date") }}

),

shares as (

    select
        volumes.*,
        case volumes.emission_factor_basis
            when 'direct' then zone_carbon.direct_g_per_kwh
            when 'life_cycle' then zone_carbon.life_cycle_g_per_kwh
        end as location_g_per_kwh,
        residual_mix.value_g_per_kwh as residual_mix_g_per_kwh,
        {{ clean_share_ratio("monthly") }} as market_clean_ratio,
        coalesce(monthly.clean_g / nullif(monthly.clean_kwh, 0), 0) as market_clean_g_per_kwh,
        {{ clean_share_ratio("hourly") }} as hourly_clean_ratio,
        {{ used_times("monthly.certificate_ratio", "volumes.grid_import_kwh") }} as certificate_kwh,
        coalesce(hourly.clean_g / nullif(hourly.clean_kwh, 0), 0) as hourly_clean_g_per_kwh,
        zone_carbon.carbon_free_ratio as zone_carbon_free_ratio,
        zone_carbon.is_estimated
    from volumes
    left join monthly
        on
            volumes.site_id = monthly.site_id
            and volumes.local_month = monthly.local_month
    left join hourly
        on
            volumes.site_id = hourly.site_id
            and date_trunc('hour', volumes.interval_started_at) = hourly.hour_started_at
    left join {{ ref("stg_grid_carbon") }} as zone_carbon
        on
            volumes.carbon_zone = zone_carbon.zone
            and volumes.interval_started_at = zone_carbon.interval_started_at
            and {{ in_build_dates("zone_carbon.utc_date") }}
    left join factors as residual_mix
        on
            volumes.carbon_zone = residual_mix.zone
            and residual_mix.kind = 'residual_mix'
            and volumes.emission_factor_basis = residual_mix.basis
            and {{ is_valid_at("residual_mix", "volumes.interval_started_at") }}
    where {{ in_build_dates("volumes.utc_date") }}

),

-- Without a residual mix the GHG Protocol falls back on the location's average.
unmatched as (

    select
        *,
        coalesce(residual_mix_g_per_kwh, location_g_per_kwh) as unmatched_g_per_kwh
    from shares

)

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    local_month,
    clean_kwh,
    {{ round_kwh("certificate_kwh") }} as certificate_kwh,
    location_g_per_kwh,
    market_clean_ratio,
    residual_mix_g_per_kwh,
    {%- for method, factor in [("market", "market_g_per_kwh"), ("hourly", "hourly_matched_g_per_kwh")] %}
    {{ method }}_clean_ratio * {{ method }}_clean_g_per_kwh
    + {{ used_times("(1 - " ~ method ~ "_clean_ratio)", "unmatched_g_per_kwh") }} as {{ factor }},
    {%- endfor %}
    hourly_clean_ratio,
    zone_carbon_free_ratio,
    hourly_clean_ratio + (1 - hourly_clean_ratio) * zone_carbon_free_ratio as carbon_free_ratio,
    coalesce(is_estimated, false) as is_factor_estimated
from unmatched
