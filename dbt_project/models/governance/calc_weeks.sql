with

organization as (

    select *
    from {{ source("raw", "organization") }}

),

mondays as (

    select
        week,
        strptime(week || '-1', '%G-W%V-%u') as monday_at
    from {{ ref("kpi_organization_weekly") }}

)

select
    mondays.week,
    mondays.monday_at at time zone organization.time_zone as started_at,
    (mondays.monday_at + interval 7 days) at time zone organization.time_zone as ended_at,
    cast(mondays.monday_at as date) as monday_date,
    organization.reporting_currency as currency_code
from mondays
cross join organization
