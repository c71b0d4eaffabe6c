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

),

-- No rate is published on weekends and holidays: the last one holds, for so many days.
held as (

    select
        rates.rate_date,
        rates.currency_code,
        rates.rate_to_reporting,
        least(
            rates.rate_date + cast(organization.fx_rate_holds_days as integer),
            lead(rates.rate_date) over (partition by rates.currency_code order by rates.rate_date) - 1
        ) as last_date
    from {{ source("raw", "fx_rates") }} as rates
    inner join organization on rates.currency_code <> organization.reporting_currency

)

select
    cast(unnest(generate_series(rate_date, last_date, interval 1 day)) as date) as rate_date,
    currency_code,
    rate_to_reporting
from held

union all

select
    rate_date,
    currency_code,
    rate_to_reporting
from reporting_currency
