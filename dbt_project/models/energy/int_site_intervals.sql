{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

-- What is known of a site by itself, from whatever source: it is in the book from the first of them on. The plant of a
-- power purchase agreement is not at the site; a job that began before anything else counts with its end.
found as (

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

    union all

    select
        batteries.site_id,
        min({{ interval_start("samples.sampled_at") }}) as first_started_at,
        max({{ interval_start("samples.sampled_at") }}) + interval 15 minutes as last_ended_at
    from {{ ref("stg_battery_samples") }} as samples
    inner join {{ source("raw", "batteries") }} as batteries
        on
            samples.battery_id = batteries.battery_id
            and {{ is_valid_at("batteries", "samples.sampled_at") }}
    where {{ in_build_dates("samples.utc_date") }}
    group by batteries.site_id

    union all

    select
        site_id,
        min(interval_started_at) as first_started_at,
        max(interval_ended_at) as last_ended_at
    from {{ ref("stg_node_intervals") }}
    where {{ in_build_dates("utc_date") }}
    group by site_id

    union all

    select
        site_id,
        min({{ interval_end("held_until_at") }}) - interval 15 minutes as first_started_at,
        max({{ interval_end("held_until_at") }}) as last_ended_at
    from {{ ref("stg_jobs") }}
    where {{ in_build_dates("held_until_at") }}
    group by site_id

),

-- A public cloud is known by the hours of its bill.
site_spans as (

    select
        found.site_id,
        min(found.first_started_at) as first_started_at,
        max(found.last_ended_at) as last_ended_at
    from found
    semi join {{ source("raw", "sites") }} as sites
        on
            found.site_id = sites.site_id
            and sites.venue_kind <> 'public_cloud'
    group by found.site_id
    {% if is_incremental() %}
    union all

    -- A site that was there on the day before goes on, whether or not its sources do.
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

-- From the day of a site's first source up to the end of the whole book, so that a site whose sources stop shows as not
-- covered.
spans as (

    select
        site_id,
        date_trunc('day', min(first_started_at)) as first_started_at,
        max(max(last_ended_at)) over () as last_ended_at
    from site_spans
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
