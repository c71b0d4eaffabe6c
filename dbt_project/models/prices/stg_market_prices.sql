{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

revisions as (

    {{ latest_revision(
        source("raw", "market_prices"),
        ["zone", "market", "sequence", "interval_started_at", "interval_ended_at"],
        in_build_dates("interval_ended_at")
    ) }}

),

slices as ({{ cut_to_intervals("revisions") }}),

-- A price holds for all of a longer interval, and is averaged over shorter ones.
accounts as (

    select
        zone,
        market,
        sequence,
        currency_code as source_currency_code,
        slice_started_at as interval_started_at,
        slice_started_at + interval 15 minutes as interval_ended_at,
        cast(slice_started_at as date) as utc_date,
        {{ weighted_mean("price_per_mwh", "overlap_s") }} as source_price_per_mwh,
        {{ exact_sum("overlap_s") }} / 900 as coverage_ratio,
        bool_or(overlap_s < duration_s) as is_profiled,
        max(known_at) as known_at,
        max({{ revised_at() }}) as revised_at,
        arg_max(source_file, ({{ revised_at() }}, load_number)) as source_file,
        duration_s
    from slices
    group by zone, market, sequence, currency_code, slice_started_at, duration_s

),

-- Of two currencies the later known.
whole as (

    select *
    from accounts
    where
        coverage_ratio >= 1
        and {{ in_build_dates("utc_date") }}
    qualify row_number() over (
        partition by zone, market, sequence, duration_s, interval_started_at
        order by revised_at desc, source_currency_code asc
    ) = 1

),

-- Prices for two lengths of interval come from two auctions: an hour is settled at those of one of them. Until the
-- delivery day 2025-10-01, Brussels time, the day-ahead auction cleared by the hour, and quarter-hours were another's.
chosen as (

    select *
    from whole
    qualify rank() over (
        partition by zone, market, sequence, time_bucket(interval 1 hour, interval_started_at)
        order by
            market = 'day_ahead' and interval_started_at < timestamptz '2025-09-30 22:00:00+00' and duration_s < 3600,
            duration_s
    ) = 1

)

select
    chosen.zone,
    chosen.market,
    chosen.sequence,
    chosen.interval_started_at,
    chosen.interval_ended_at,
    chosen.utc_date,
    chosen.source_price_per_mwh
    * fx_rates.rate_to_reporting as price_per_mwh,
    organization.reporting_currency as currency_code,
    chosen.source_price_per_mwh,
    chosen.source_currency_code,
    chosen.is_profiled,
    chosen.known_at,
    chosen.source_file
from chosen
cross join {{ source("raw", "organization") }} as organization
left join {{ ref("stg_fx_rates") }} as fx_rates
    on
        chosen.source_currency_code = fx_rates.currency_code
        and chosen.utc_date = fx_rates.rate_date
