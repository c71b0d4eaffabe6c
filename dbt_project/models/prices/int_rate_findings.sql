{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

{#
    Amounts in a currency without a rate: the terms of sites and what the market prices them at. `subject_id` is the
    currency.
#}
with

missing as (

    select
        site_id,
        site_currency_code as currency_code,
        utc_date
    from {{ ref("int_site_intervals") }}
    where
        exchange_rate is null
        and {{ in_build_dates("utc_date") }}

    union

    select
        null as site_id,
        source_currency_code as currency_code,
        utc_date
    from {{ ref("stg_market_prices") }}
    where
        price_per_mwh is null
        and source_price_per_mwh is not null
        and {{ in_build_dates("utc_date") }}

)

select
    'fx_rate_missing' as rule_id,
    site_id,
    'currency' as subject_kind,
    currency_code as subject_id,
    cast(utc_date as timestamp) at time zone 'UTC' as interval_started_at,
    cast(utc_date + interval 1 day as timestamp) at time zone 'UTC' as interval_ended_at,
    utc_date,
    cast(null as double) as value,
    'a rate of the day in fx_rates.csv' as expected
from missing
