{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

select
    prices.zone,
    prices.market,
    prices.sequence,
    prices.interval_started_at,
    prices.interval_ended_at,
    prices.utc_date,
    prices.price_per_mwh,
    prices.currency_code,
    prices.source_price_per_mwh,
    prices.source_currency_code,
    prices.is_profiled,
    prices.known_at
from {{ ref("stg_market_prices") }} as prices
where
    {{ in_build_dates("prices.utc_date") }}
    and not exists (
        select 1
        from {{ ref("int_price_findings") }} as findings
        where
            findings.rule_id = 'price_range'
            and findings.zone = prices.zone
            and findings.market = prices.market
            and findings.sequence = prices.sequence
            and findings.interval_started_at = prices.interval_started_at
    )
