with

organization as (

    select *
    from {{ source("raw", "organization") }}

),

-- The reporting currency needs no rate of its own: it is 1 on whatever day.
reporting_currency as (

    select
        cast(unnest(generate_series({{ first_and_last_date() }}, interval 1 day)) as date) as rate_date,
        reporting_currency as currency_code,
        cast(1 as double) as rate_to_reporting
    from organization

),

published as (

    {{ latest_revision(source("raw", "exchange_rates"), ["currency_code", "rate_date"]) }}

),

-- The euro is worth one of itself on whatever day the others have a rate.
euro_rates as (

    select
        rate_date,
        currency_code,
        units_per_euro
    from published

    union

    select
        rate_date,
        'EUR' as currency_code,
        cast(1 as double) as units_per_euro
    from published

),

-- What people declare goes before what a bank publishes.
filed as (

    select
        rate_date,
        currency_code,
        rate_to_reporting
    from {{ source("raw", "fx_rates") }}

    union all

    select
        rates.rate_date,
        rates.currency_code,
        reporting.units_per_euro / rates.units_per_euro as rate_to_reporting
    from euro_rates as rates
    inner join euro_rates as reporting on rates.rate_date = reporting.rate_date
    inner join organization on reporting.currency_code = organization.reporting_currency
    anti join {{ source("raw", "fx_rates") }} as declared
        on
            rates.rate_date = declared.rate_date
            and rates.currency_code = declared.currency_code

),

-- A rate far from those around it was sent in another unit, or is another currency's.
compared as (

    select
        rates.rate_date,
        rates.currency_code,
        rates.rate_to_reporting,
        median(rates.rate_to_reporting) over (
            partition by rates.currency_code
            order by rates.rate_date
            rows between 3 preceding and 3 following exclude current row
        ) as neighbouring_rate
    from filed as rates
    inner join organization on rates.currency_code <> organization.reporting_currency

),

-- No rate is published on weekends and holidays: the last one holds, for so many days.
held as (

    select
        rates.rate_date,
        rates.currency_code,
        rates.rate_to_reporting as source_rate_to_reporting,
        rates.neighbouring_rate is null
        or abs(rates.rate_to_reporting / rates.neighbouring_rate - 1)
        <= {{ var("finding_tolerances")["fx_rate_ratio"] }} as is_plausible,
        least(
            rates.rate_date + cast(organization.fx_rate_holds_days as integer),
            lead(rates.rate_date) over (partition by rates.currency_code order by rates.rate_date) - 1
        ) as last_date
    from compared as rates
    cross join organization

)

select
    cast(unnest(generate_series(rate_date, last_date, interval 1 day)) as date) as rate_date,
    currency_code,
    case when is_plausible then source_rate_to_reporting end as rate_to_reporting,
    source_rate_to_reporting
from held

union all

select
    rate_date,
    currency_code,
    rate_to_reporting,
    rate_to_reporting as source_rate_to_reporting
from reporting_currency
