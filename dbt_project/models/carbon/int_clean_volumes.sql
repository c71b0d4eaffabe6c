{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

intervals as (

    select *
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

factors as (

    select *
    from {{ source("raw", "emission_factors") }}
    where
        kind = 'production_type'
        and not is_marginal

),

carbon_free_sources as (

    select distinct energy_source
    from factors
    where
        basis = 'direct'
        and value_g_per_kwh = 0

),

-- Energy whose certificates come with the contract and whose source burns nothing.
clean_volumes as (

    select
        volumes.site_id,
        volumes.interval_started_at,
        round({{ sum_if_all_known("volumes.volume_mwh") }} * 1000, 6) as clean_kwh,
        round({{ exact_sum("volumes.volume_mwh * 1000 * factors.value_g_per_kwh") }}, 6) as clean_g
    from {{ ref("int_contract_volumes") }} as volumes
    inner join intervals
        on
            volumes.site_id = intervals.site_id
            and volumes.interval_started_at = intervals.interval_started_at
    inner join carbon_free_sources on volumes.energy_source = carbon_free_sources.energy_source
    inner join factors
        on
            volumes.energy_source = factors.energy_source
            and intervals.emission_factor_basis = factors.basis
            and {{ is_valid_at("factors", "volumes.interval_started_at") }}
    where
        volumes.are_certificates_bundled
        and {{ in_build_dates("volumes.utc_date") }}
    group by volumes.site_id, volumes.interval_started_at

)

-- A site without such a contract has no clean volume; one whose plant was not read has an unknown one.
select
    intervals.site_id,
    intervals.interval_started_at,
    intervals.interval_ended_at,
    intervals.utc_date,
    intervals.local_month,
    intervals.carbon_zone,
    intervals.emission_factor_basis,
    roles.grid_import_kwh,
    case when clean_volumes.site_id is null then 0 else clean_volumes.clean_kwh end as clean_kwh,
    coalesce(clean_volumes.clean_g, 0) as clean_g
from intervals
left join {{ ref("int_meter_roles_pivoted") }} as roles
    on
        intervals.site_id = roles.site_id
        and intervals.interval_started_at = roles.interval_started_at
        and {{ in_build_dates("roles.utc_date") }}
left join clean_volumes
    on
        intervals.site_id = clean_volumes.site_id
        and intervals.interval_started_at = clean_volumes.interval_started_at
