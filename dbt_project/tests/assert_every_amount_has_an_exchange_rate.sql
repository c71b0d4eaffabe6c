-- Returns the currencies and days that the book uses and data/reference/fx_rates.csv has no rate for: amounts in them
-- would silently be missing.
select distinct
    'site' as source,
    site_currency_code as currency_code,
    utc_date
from {{ ref("int_site_intervals") }}
where exchange_rate is null

union all

select distinct
    'market price' as source,
    source_currency_code as currency_code,
    utc_date
from {{ ref("stg_market_prices") }}
where price_per_mwh is null

union all

select distinct
    'cloud charge' as source,
    source_currency_code as currency_code,
    utc_date
from {{ ref("stg_cloud_charges") }}
where effective_cost is null
