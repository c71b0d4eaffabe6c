{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

-- Of an interval with a reading missing neither side counts.
hours as (

    select
        site_id,
        date_trunc('hour', interval_started_at) as hour_started_at,
        utc_date,
        min(local_month) as local_month,
        carbon_zone,
        {{ exact_sum("grid_import_kwh", known_volumes()) }} as import_kwh,
        {{ exact_sum("clean_kwh", known_volumes()) }} as clean_kwh,
        {{ exact_sum("clean_g", known_volumes()) }} as clean_g
    from {{ ref("int_clean_volumes") }}
    where {{ in_build_dates("utc_date") }}
    group by site_id, date_trunc('hour', interval_started_at), utc_date, carbon_zone

),

pools as (

    select
        carbon_zone,
        hour_started_at,
        {{ exact_sum("energy_kwh") }} as pool_kwh,
        round({{ exact_sum("energy_kwh * value_g_per_kwh") }}, 6) as pool_g
    from {{ ref("int_certificate_claims") }}
    where
        granularity = 'hour'
        and refusal is null
    group by carbon_zone, hour_started_at

),

needs as (

    select
        hours.*,
        case when hours.clean_kwh >= hours.import_kwh then 0 else round(hours.import_kwh - hours.clean_kwh, 6) end
            as need_kwh,
        coalesce(pools.pool_kwh, 0) as pool_kwh,
        coalesce(pools.pool_g, 0) as pool_g
    from hours
    left join pools
        on
            hours.carbon_zone = pools.carbon_zone
            and hours.hour_started_at = pools.hour_started_at

),

shared as (

    select
        *,
        round(
            {{ pro_rata_kwh(
                "need_kwh", exact_sum("need_kwh", over="(partition by carbon_zone, hour_started_at)"), "pool_kwh"
            ) }}, 6
        ) as certificate_kwh
    from needs

)

select
    site_id,
    hour_started_at,
    utc_date,
    local_month,
    carbon_zone,
    import_kwh,
    clean_kwh,
    clean_g,
    pool_kwh,
    certificate_kwh,
    round(certificate_kwh * coalesce(pool_g / nullif(pool_kwh, 0), 0), 6) as certificate_g
from shared
