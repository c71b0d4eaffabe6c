{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

select prices.*
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
