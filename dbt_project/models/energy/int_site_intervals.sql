{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

-- The plant of a power purchase agreement is not at the site.
site_readings as (

    select
        meters.site_id,
        min(readings.interval_started_at) as first_started_at,
        max(readings.interval_ended_at) as last_ended_at
    from {{ ref("stg_meter_readings") }} as readings
    inner join {{ source("raw", "meters") }} as meters
        on
            readings.meter_id = meters.meter_id
            and readings.flow = meters.flow
    where
        meters.role <> 'ppa_generation'
        and {{ in_build_dates("readings.utc_date") }}
    group by meters.site_id
    {% if is_incremental() %}
    union all

    -- A site that was there on the day before goes on, whether or not its meters do.
    select
        site_id,
        min(interval_started_at) as first_started_at,
        max(interval_ended_at) as last_ended_at
    from {{ this }}
    where
        {{ in_build_dates("utc_date", days_before=1) }}
        and not {{ in_build_dates("utc_date") }}
    group by site_id
    {% endif %}

),

-- From the day of a site's first reading up to the end of the whole book, so that a site whose readings stop shows as
-- not covered.
spans as (

    select
        site_id,
        date_trunc('day', min(first_started_at)) as first_started_at,
        max(max(last_ended_at)) over () as last_ended_at
    from site_readings
    group by site_id

),

spine as (

    select
        site_id,
        unnest(
            generate_series(
                greatest(first_started_at, {{ build_from() or "first_started_at" }}),
                last_ended_at - interval 15 minutes,
                interval 15 minutes
            )
        ) as interval_started_at
    from spans

),

localized as (

    select
        sites.*,
        spine.interval_started_at,
        spine.interval_started_at + interval 15 minutes as interval_ended_at,
        cast(spine.interval_started_at as date) as utc_date,
        cast(spine.interval_started_at at time zone sites.time_zone as date) as local_date,
        hour(spine.interval_started_at at time zone sites.time_zone) as local_hour,
        cast(
            date_trunc('month', spine.interval_started_at at time zone sites.time_zone) as date
        ) as local_month,
        {{ iso_week("spine.interval_started_at at time zone organization.time_zone") }} as week,
        organization.reporting_currency,
        organization.emission_factor_basis
    from spine
    inner join {{ source("raw", "sites") }} as sites
        on
            spine.site_id = sites.site_id
            and {{ is_valid_at("sites", "spine.interval_started_at") }}
    cross join {{ source("raw", "organization") }} as organization

),

converted as (

    select
        localized.*,
        fx_rates.rate_to_reporting as exchange_rate
    from localized
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            localized.currency_code = fx_rates.currency_code
            and localized.utc_date = fx_rates.rate_date

)

select
    converted.site_id,
    converted.interval_started_at,
    converted.interval_ended_at,
    converted.utc_date,
    converted.local_date,
    converted.local_hour,
    converted.local_month,
    converted.week,
    converted.venue_kind,
    converted.time_zone,
    converted.bidding_zone,
    converted.price_market,
    converted.price_sequence,
    converted.carbon_zone,
    converted.emission_factor_basis,
    converted.grid_firm_mw,
    converted.grid_non_firm_mw,
    converted.electrical_limit_mw,
    converted.cooling_limit_mw,
    converted.it_capacity_mw,
    capacity_plan.committed_it_mw,
    converted.local_committed_mw,
    converted.is_local_islandable,
    converted.sustain_hours,
    converted.design_pue as design_pue_ratio,
    converted.variable_cost_per_gpu_hour * converted.exchange_rate as variable_cost_per_gpu_hour,
    converted.price_stop_per_mwh * converted.exchange_rate as price_stop_per_mwh,
    converted.exchange_rate,
    converted.currency_code as site_currency_code,
    converted.reporting_currency as currency_code
from converted
left join {{ source("raw", "capacity_plan") }} as capacity_plan
    on
        converted.site_id = capacity_plan.site_id
        and converted.local_month = capacity_plan.month
