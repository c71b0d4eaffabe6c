with

book as (

    select
        min(interval_started_at) as first_started_at,
        max(interval_started_at) as last_started_at,
        max(interval_ended_at) as last_ended_at,
        max(utc_date) as newest_date
    from {{ ref("int_site_intervals") }}

),

sites as (

    select distinct
        site_id,
        venue_kind,
        time_zone,
        bidding_zone
    from {{ source("raw", "sites") }}

),

local_months as (

    select
        sites.*,
        book.last_ended_at,
        book.newest_date,
        unnest(
            generate_series(
                date_trunc('month', book.first_started_at at time zone sites.time_zone),
                date_trunc('month', book.last_started_at at time zone sites.time_zone) + interval 24 months,
                interval 1 month
            )
        ) as month_started_local
    from sites
    cross join book

),

instants as (

    select
        *,
        month_started_local at time zone time_zone as month_started_at,
        (month_started_local + interval 1 month) at time zone time_zone as month_ended_at
    from local_months

)

select
    site_id,
    cast(month_started_local as date) as local_month,
    month_started_at,
    month_ended_at,
    {{ hours_between("month_started_at", "month_ended_at") }} as month_hours,
    case
        when month_ended_at <= last_ended_at then 'past'
        when month_started_at < last_ended_at then 'current'
        else 'future'
    end as month_kind,
    venue_kind,
    time_zone,
    bidding_zone,
    newest_date
from instants
