{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{% set tolerances = var("finding_tolerances") %}

with

implausible_rates as (

    select *
    from {{ ref("stg_fx_rates") }}
    where rate_to_reporting is null

),

-- A zone may be priced at several markets, of which a site or contract goes by one: the zone is what nobody knows.
named_zones as (

    select bidding_zone as zone
    from {{ source("raw", "sites") }}
    where bidding_zone is not null

    union

    select settlement_zone as zone
    from {{ source("raw", "contracts") }}
    where settlement_zone is not null

),

-- A market's report has hundreds of points besides the one that is named.
used_files as (

    select distinct prices.source_file
    from {{ ref("stg_market_prices") }} as prices
    inner join named_zones on prices.zone = named_zones.zone
    where {{ in_build_dates("prices.utc_date") }}

),

unused_prices as (

    select
        prices.zone,
        prices.utc_date,
        count(*) as price_count
    from {{ ref("stg_market_prices") }} as prices
    left join named_zones on prices.zone = named_zones.zone
    anti join used_files on prices.source_file = used_files.source_file
    where
        named_zones.zone is null
        and {{ in_build_dates("prices.utc_date") }}
    group by prices.zone, prices.utc_date

),

without_rate as (

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

    union

    select
        site_id,
        source_currency_code as currency_code,
        utc_date
    from {{ ref("stg_cloud_charges") }}
    where
        effective_cost is null
        and source_effective_cost is not null
        and {{ in_build_dates("utc_date") }}

),

-- What is found of a whole day.
days as (

    select
        'fx_rate_missing' as rule_id,
        without_rate.site_id,
        'currency' as subject_kind,
        without_rate.currency_code as subject_id,
        null as zone,
        without_rate.utc_date,
        cast(null as double) as value,
        'a rate declared or published, of the day or still holding' as expected
    from without_rate
    left join implausible_rates
        on
            without_rate.currency_code = implausible_rates.currency_code
            and without_rate.utc_date = implausible_rates.rate_date
    where implausible_rates.currency_code is null

    union all

    select
        'fx_rate_jump' as rule_id,
        null as site_id,
        'currency' as subject_kind,
        currency_code as subject_id,
        null as zone,
        rate_date as utc_date,
        source_rate_to_reporting as value,
        'near the rates filed before and after it' as expected
    from implausible_rates
    where {{ in_build_dates("rate_date") }}

    union all

    select
        'price_unused' as rule_id,
        null as site_id,
        'zone' as subject_kind,
        zone as subject_id,
        zone,
        utc_date,
        price_count as value,
        'a zone that a site or contract names' as expected
    from unused_prices

)

select
    rule_id,
    site_id,
    subject_kind,
    subject_id,
    zone,
    cast(null as varchar) as market,
    cast(null as bigint) as sequence,
    cast(utc_date as timestamp) at time zone 'UTC' as interval_started_at,
    cast(utc_date + interval 1 day as timestamp) at time zone 'UTC' as interval_ended_at,
    utc_date,
    value,
    expected
from days

union all

select
    'price_range' as rule_id,
    null as site_id,
    'zone' as subject_kind,
    zone || ' ' || market || ' ' || sequence as subject_id,
    zone,
    market,
    sequence,
    interval_started_at,
    interval_ended_at,
    utc_date,
    price_per_mwh as value,
    '{{ tolerances["lowest_price_per_mwh"] }} to {{ tolerances["highest_price_per_mwh"] }} per MWh' as expected
from {{ ref("stg_market_prices") }}
where
    (
        price_per_mwh < {{ tolerances["lowest_price_per_mwh"] }}
        or price_per_mwh > {{ tolerances["highest_price_per_mwh"] }}
    )
    and {{ in_build_dates("utc_date") }}
