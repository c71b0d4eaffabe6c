with

days as (

    select distinct
        site_id,
        local_date
    from {{ ref("int_site_intervals") }}

),

time_zones as (

    select distinct
        site_id,
        time_zone
    from {{ source("raw", "sites") }}

),

site_costs as (

    select
        costs.*,
        cast(costs.valid_from_at at time zone time_zones.time_zone as date) as first_date,
        cast(costs.valid_to_at at time zone time_zones.time_zone as date) as end_date
    from {{ source("raw", "site_costs") }} as costs
    inner join time_zones on costs.site_id = time_zones.site_id

),

daily as (

    select
        site_costs.cost_id,
        site_costs.site_id,
        days.local_date,
        site_costs.kind,
        site_costs.name,
        site_costs.currency_code as own_currency_code,
        site_costs.first_date,
        site_costs.end_date,
        case site_costs.kind
            when 'depreciation' then site_costs.amount / (site_costs.end_date - site_costs.first_date)
            when 'operations' then site_costs.amount / day(last_day(days.local_date))
        end as own_currency_cost
    from site_costs
    inner join days
        on
            site_costs.site_id = days.site_id
            and site_costs.first_date <= days.local_date
            and coalesce(site_costs.end_date, date 'infinity') > days.local_date

)

select
    daily.cost_id,
    daily.site_id,
    daily.local_date,
    daily.kind,
    daily.name,
    daily.first_date,
    daily.end_date,
    round(daily.own_currency_cost * fx_rates.rate_to_reporting, 9) as cost,
    organization.reporting_currency as currency_code
from daily
cross join {{ source("raw", "organization") }} as organization
left join {{ ref("stg_fx_rates") }} as fx_rates
    on
        daily.own_currency_code = fx_rates.currency_code
        and daily.local_date = fx_rates.rate_date
