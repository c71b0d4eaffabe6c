{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

terms as (

    select *
    from {{ source("raw", "contracts") }}
    where kind in ('ppa_pay_as_produced', 'vppa_cfd')

),

intervals as (

    select *
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

readings as (

    select *
    from {{ ref("stg_meter_readings") }}
    where
        flow = 'export'
        and {{ in_build_dates("utc_date") }}

),

-- Where a market has several sequences, the first is the one contracts refer to.
prices as (

    select *
    from {{ ref("stg_market_prices") }}
    where
        sequence = 1
        and {{ in_build_dates("utc_date") }}

),

priced as (

    select
        terms.contract_id,
        terms.site_id,
        terms.kind as contract_kind,
        terms.valid_from_at as terms_valid_from_at,
        terms.energy_source,
        terms.are_certificates_bundled,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        intervals.currency_code,
        intervals.interval_started_at at time zone terms.time_zone as local_started_at,
        readings.energy_kwh as metered_kwh,
        {{ kwh_to_mwh("readings.energy_kwh * terms.share_of_plant") }} as share_mwh,
        coalesce(readings.quality, 'missing') as quality,
        prices.price_per_mwh as settlement_price_per_mwh,
        prices.source_price_per_mwh,
        prices.source_currency_code,
        terms.price_per_mwh as contract_price_per_mwh,
        terms.currency_code as contract_currency_code,
        case
            when terms.negative_price_clause in ('no_volume', 'zero_floor') and prices.price_per_mwh < 0
                then terms.negative_price_clause
            when terms.negative_price_clause = 'no_volume' and prices.price_per_mwh is null then null
            else 'none'
        end as clause_applied
    from intervals
    inner join terms
        on
            intervals.site_id = terms.site_id
            and {{ is_valid_at("terms", "intervals.interval_started_at") }}
    left join readings
        on
            terms.plant_meter_id = readings.meter_id
            and intervals.interval_started_at = readings.interval_started_at
    left join prices
        on
            terms.settlement_zone = prices.zone
            and terms.market = prices.market
            and intervals.interval_started_at = prices.interval_started_at

)

select
    contract_id,
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    cast(local_started_at as date) as local_date,
    cast(date_trunc('month', local_started_at) as date) as local_month,
    contract_kind,
    terms_valid_from_at,
    energy_source,
    are_certificates_bundled,
    metered_kwh,
    case
        when clause_applied = 'no_volume' then 0
        when clause_applied is not null then share_mwh
    end as volume_mwh,
    settlement_price_per_mwh,
    source_price_per_mwh,
    source_currency_code,
    contract_price_per_mwh,
    contract_currency_code,
    clause_applied,
    currency_code,
    quality
from priced
