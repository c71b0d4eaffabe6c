{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

-- A market-based share is that of the whole local month, so the window's first month is read from its first day.
months as (

    select *
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date", days_before=32) }}

),

factors as (

    select *
    from {{ source("raw", "emission_factors") }}
    where not is_marginal

),

carbon_free_sources as (

    select distinct energy_source
    from factors
    where
        kind = 'production_type'
        and basis = 'direct'
        and value_g_per_kwh = 0

),

-- Energy whose certificates come with the contract and whose source burns nothing.
clean_volumes as (

    select
        volumes.site_id,
        volumes.interval_started_at,
        case when count(volumes.volume_mwh) = count(*) then round(sum(volumes.volume_mwh) * 1000, 6) end
            as clean_kwh,
        round(sum(volumes.volume_mwh * 1000 * factors.value_g_per_kwh), 6) as clean_g
    from {{ ref("int_contract_volumes") }} as volumes
    inner join months
        on
            volumes.site_id = months.site_id
            and volumes.interval_started_at = months.interval_started_at
    inner join carbon_free_sources on volumes.energy_source = carbon_free_sources.energy_source
    inner join factors
        on
            volumes.energy_source = factors.energy_source
            and factors.kind = 'production_type'
            and months.emission_factor_basis = factors.basis
            and {{ is_valid_at("factors", "volumes.interval_started_at") }}
    where volumes.are_certificates_bundled
    group by volumes.site_id, volumes.interval_started_at

),

-- A site without such a contract has no clean volume; one whose plant was not read has an unknown one.
matched as (

    select
        months.site_id,
        months.interval_started_at,
        months.interval_ended_at,
        months.utc_date,
        months.local_month,
        months.carbon_zone,
        months.emission_factor_basis,
        roles.grid_import_kwh,
        case when clean_volumes.site_id is null then 0 else clean_volumes.clean_kwh end as clean_kwh,
        coalesce(clean_volumes.clean_g, 0) as clean_g
    from months
    left join {{ ref("int_meter_roles_pivoted") }} as roles
        on
            months.site_id = roles.site_id
            and months.interval_started_at = roles.interval_started_at
    left join clean_volumes
        on
            months.site_id = clean_volumes.site_id
            and months.interval_started_at = clean_volumes.interval_started_at

),

{% set known = "filter (where grid_import_kwh is not null and clean_kwh is not null)" %}
monthly as (

    select
        site_id,
        local_month,
        round(sum(clean_kwh) {{ known }}, 6) as clean_kwh,
        round(sum(clean_g) {{ known }}, 6) as clean_g,
        round(sum(grid_import_kwh) {{ known }}, 6) as import_kwh
    from matched
    group by site_id, local_month

),

hourly as (

    select
        site_id,
        date_trunc('hour', interval_started_at) as hour_started_at,
        round(sum(clean_kwh) {{ known }}, 6) as clean_kwh,
        round(sum(clean_g) {{ known }}, 6) as clean_g,
        round(sum(grid_import_kwh) {{ known }}, 6) as import_kwh
    from matched
    where {{ in_build_dates("utc_date") }}
    group by site_id, date_trunc('hour', interval_started_at)

),

shares as (

    select
        matched.*,
        case matched.emission_factor_basis
            when 'direct' then zone_carbon.direct_g_per_kwh
            when 'life_cycle' then zone_carbon.life_cycle_g_per_kwh
        end as location_g_per_kwh,
        residual_mix.value_g_per_kwh as residual_mix_g_per_kwh,
        {{ clean_share_ratio("monthly") }} as market_clean_ratio,
        coalesce(monthly.clean_g / nullif(monthly.clean_kwh, 0), 0) as market_clean_g_per_kwh,
        {{ clean_share_ratio("hourly") }} as hourly_clean_ratio,
        coalesce(hourly.clean_g / nullif(hourly.clean_kwh, 0), 0) as hourly_clean_g_per_kwh,
        zone_carbon.carbon_free_ratio as zone_carbon_free_ratio,
        zone_carbon.is_estimated
    from matched
    left join monthly
        on
            matched.site_id = monthly.site_id
            and matched.local_month = monthly.local_month
    left join hourly
        on
            matched.site_id = hourly.site_id
            and date_trunc('hour', matched.interval_started_at) = hourly.hour_started_at
    left join {{ ref("stg_grid_carbon") }} as zone_carbon
        on
            matched.carbon_zone = zone_carbon.zone
            and matched.interval_started_at = zone_carbon.interval_started_at
    left join factors as residual_mix
        on
            matched.carbon_zone = residual_mix.zone
            and residual_mix.kind = 'residual_mix'
            and matched.emission_factor_basis = residual_mix.basis
            and {{ is_valid_at("residual_mix", "matched.interval_started_at") }}
    where {{ in_build_dates("matched.utc_date") }}

)

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    local_month,
    clean_kwh,
    location_g_per_kwh,
    market_clean_ratio,
    residual_mix_g_per_kwh,
    market_clean_ratio * market_clean_g_per_kwh
    -- Without a residual mix the GHG Protocol falls back on the location's average.
    + (1 - market_clean_ratio) * coalesce(residual_mix_g_per_kwh, location_g_per_kwh) as market_g_per_kwh,
    hourly_clean_ratio,
    hourly_clean_ratio * hourly_clean_g_per_kwh
    + (1 - hourly_clean_ratio) * location_g_per_kwh as hourly_matched_g_per_kwh,
    zone_carbon_free_ratio,
    hourly_clean_ratio + (1 - hourly_clean_ratio) * zone_carbon_free_ratio as carbon_free_ratio,
    coalesce(is_estimated, false) as is_factor_estimated
from shares
