with

organization as (

    select *
    from {{ source("raw", "organization") }}

),

-- The reporting currency needs no rate of its own: it is 1 on whatever day.
reporting_currency as (

    select
        cast(unnest(generate_series(date '2000-01-01', date '2099-12-31', interval 1 day)) as date) as rate_date,
        reporting_currency as currency_code,
        cast(1 as double) as rate_to_reporting
    from organization

)

select
    rates.rate_date,
    rates.currency_code,
    rates.rate_to_reporting
from {{ source("raw", "fx_rates") }} as rates
inner join organization on rates.currency_code <> organization.reporting_currency

union all

select
    rate_date,
    currency_code,
    rate_to_reporting
from reporting_currency
