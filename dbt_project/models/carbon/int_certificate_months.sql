{# A month is built again when any day of the window may belong to it. #}
{% set is_in_build_months %}{{ in_build_dates("cast(local_month + interval 1 month as date)") }}{% endset %}
{{ config(
    materialized = "incremental",
    meta = {"day": "cast(local_month + interval 1 month as date)"}
) }}

with

-- The window may begin in the middle of a month, which is read from its first day.
volumes as (

    select
        site_id,
        local_month,
        max(utc_date) as utc_date,
        carbon_zone,
        {{ exact_sum("grid_import_kwh", known_volumes()) }} as import_kwh,
        {{ exact_sum("clean_kwh", known_volumes()) }} as clean_kwh,
        {{ exact_sum("clean_g", known_volumes()) }} as clean_g
    from {{ ref("int_clean_volumes") }}
    where
        {{ in_build_dates("utc_date", days_before=32) }}
        and {{ is_in_build_months }}
    group by site_id, local_month, carbon_zone

),

hours as (

    select
        site_id,
        local_month,
        {{ exact_sum("certificate_kwh") }} as hourly_kwh,
        {{ exact_sum("certificate_g") }} as hourly_g
    from {{ ref("int_certificate_hours") }}
    where
        {{ in_build_dates("utc_date", days_before=32) }}
        and {{ is_in_build_months }}
    group by site_id, local_month

),

zone_hours as (

    select
        carbon_zone,
        hour_started_at,
        {{ exact_sum("certificate_kwh") }} as certificate_kwh
    from {{ ref("int_certificate_hours") }}
    where {{ in_build_dates("utc_date", days_before=32) }}
    group by carbon_zone, hour_started_at

),

claims as (

    select
        *,
        {{ exact_sum("energy_kwh", over="(partition by carbon_zone, hour_started_at)") }} as hour_pool_kwh
    from {{ ref("int_certificate_claims") }}
    where refusal is null

),

-- What an hour leaves of its certificates stands beside those of the month.
month_pools as (

    select
        claims.carbon_zone,
        claims.local_month,
        {{ exact_sum(left_of_hour_kwh()) }} as pool_kwh,
        round({{ exact_sum(left_of_hour_kwh() ~ " * claims.value_g_per_kwh") }}, 6) as pool_g
    from claims
    left join zone_hours
        on
            claims.carbon_zone = zone_hours.carbon_zone
            and claims.hour_started_at = zone_hours.hour_started_at
    where claims.local_month is not null
    group by claims.carbon_zone, claims.local_month

),

year_pools as (

    select
        carbon_zone,
        local_year,
        {{ exact_sum("energy_kwh") }} as pool_kwh,
        round({{ exact_sum("energy_kwh * value_g_per_kwh") }}, 6) as pool_g
    from claims
    where granularity = 'year'
    group by carbon_zone, local_year

),

needs as (

    select
        volumes.*,
        cast(date_trunc('year', volumes.local_month) as date) as local_year,
        hours.hourly_kwh,
        hours.hourly_g,
        greatest(0, round(volumes.import_kwh - volumes.clean_kwh - coalesce(hours.hourly_kwh, 0), 6)) as need_kwh,
        coalesce(month_pools.pool_kwh, 0) as month_pool_kwh,
        coalesce(month_pools.pool_g, 0) as month_pool_g
    from volumes
    left join hours
        on
            volumes.site_id = hours.site_id
            and volumes.local_month = hours.local_month
    left join month_pools
        on
            volumes.carbon_zone = month_pools.carbon_zone
            and volumes.local_month = month_pools.local_month

),

months as (

    select
        *,
        round(
            {{ pro_rata_kwh(
                "need_kwh", exact_sum("need_kwh", over="(partition by carbon_zone, local_month)"), "month_pool_kwh"
            ) }}, 6
        ) as monthly_kwh
    from needs

),

{% set kept = [
    "site_id",
    "local_month",
    "utc_date",
    "carbon_zone",
    "local_year",
    "import_kwh",
    "clean_kwh",
    "clean_g",
    "hourly_kwh",
    "hourly_g",
    "month_pool_kwh",
    "monthly_kwh",
    "monthly_g",
    "year_need_kwh",
] %}
rest as (

    select
        *,
        round(monthly_kwh * coalesce(month_pool_g / nullif(month_pool_kwh, 0), 0), 6) as monthly_g,
        round(need_kwh - monthly_kwh, 6) as year_need_kwh
    from months

),

-- The months of the year that are not built again have drawn on the year's certificates before.
all_months as (

    select
        {{ kept | join(",\n        ") }},
        true as is_built
    from rest
    {%- if is_incremental() %}
    union all
    select
        {{ kept | join(",\n        ") }},
        false as is_built
    from {{ this }}
    {%- endif %}

),

zone_months as (

    select
        carbon_zone,
        local_year,
        local_month,
        coalesce({{ exact_sum("year_need_kwh") }}, 0) as zone_need_kwh
    from all_months
    group by carbon_zone, local_year, local_month

),

-- A month takes what it needs of what the months before it have left, so no later month changes an earlier one.
drawn as (

    select
        zone_months.*,
        coalesce(year_pools.pool_kwh, 0) as year_pool_kwh,
        coalesce(year_pools.pool_g, 0) as year_pool_g,
        greatest(
            0,
            coalesce(year_pools.pool_kwh, 0) - round(
                {{ exact_sum("zone_months.zone_need_kwh", over="months_so_far") }} - zone_months.zone_need_kwh, 6
            )
        ) as left_kwh
    from zone_months
    left join year_pools
        on
            zone_months.carbon_zone = year_pools.carbon_zone
            and zone_months.local_year = year_pools.local_year
    window
        months_so_far as (
            partition by zone_months.carbon_zone, zone_months.local_year
            order by zone_months.local_month
        )

),

shared as (

    select
        all_months.*,
        drawn.year_pool_kwh,
        drawn.year_pool_g,
        round(
            {{ pro_rata_kwh("all_months.year_need_kwh", "drawn.zone_need_kwh", "drawn.left_kwh") }}, 6
        ) as yearly_kwh
    from all_months
    inner join drawn
        on
            all_months.carbon_zone = drawn.carbon_zone
            and all_months.local_month = drawn.local_month
    where all_months.is_built

),

weighed as (

    select
        *,
        round(yearly_kwh * coalesce(year_pool_g / nullif(year_pool_kwh, 0), 0), 6) as yearly_g
    from shared

)

select
    {{ kept | join(",\n    ") }},
    year_pool_kwh,
    yearly_kwh,
    yearly_g,
    round(hourly_kwh + monthly_kwh + yearly_kwh, 6) as certificate_kwh,
    round(hourly_g + monthly_g + yearly_g, 6) as certificate_g
from weighed
