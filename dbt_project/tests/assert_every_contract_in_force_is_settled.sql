-- Returns a month in which a contract was in force at a site with intervals, or with a cloud's bill, and settled to not
-- even a row without an amount: no settlement model takes up its kind, or one drops it.
with

intervals as (

    select
        site_id,
        interval_started_at
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date") }}

    union all

    select
        site_id,
        charge_period_started_at as interval_started_at
    from {{ ref("stg_cloud_charges") }}
    where
        charge_category = 'Usage'
        and {{ in_build_dates("utc_date") }}

),

months as (

    select distinct
        contracts.contract_id,
        contracts.kind as contract_kind,
        {{ local_month_of("intervals.interval_started_at", "contracts.time_zone") }} as local_month
    from {{ source("raw", "contracts") }} as contracts
    inner join intervals
        on
            contracts.site_id = intervals.site_id
            and {{ is_valid_at("contracts", "intervals.interval_started_at") }}

),

settlements as (

    select
        contract_id,
        local_month
    from {{ ref("fct_contract_settlements") }}
    where {{ in_build_months() }}

)

select months.*
from months
anti join settlements
    on
        months.contract_id = settlements.contract_id
        and months.local_month = settlements.local_month
