-- Returns a month in which a contract was in force at a site with intervals and settled to not even a row without an
-- amount: no settlement model takes up its kind, or one drops it. What only a provider's bill tells (none of the
-- kind's lines is a component of the all-in cost) has no rows before the bill has come.
with

months as (

    select
        contracts.contract_id,
        contracts.kind as contract_kind,
        contracts.site_id,
        {{ local_month_of("intervals.interval_started_at", "contracts.time_zone") }} as contract_month,
        min(intervals.interval_started_at) as started_at,
        max(intervals.interval_ended_at) as ended_at
    from {{ source("raw", "contracts") }} as contracts
    inner join {{ ref("int_site_intervals") }} as intervals
        on
            contracts.site_id = intervals.site_id
            and {{ is_valid_at("contracts", "intervals.interval_started_at") }}
    group by contracts.contract_id, contracts.kind, contracts.site_id, contracts.time_zone, contract_month

),

billed_kinds as (

    select contract_kind
    from {{ source("raw", "contract_lines") }}
    group by contract_kind
    having count(cost_component) = 0

)

select months.*
from months
anti join {{ ref("fct_contract_settlements") }} as settlements
    on
        months.contract_id = settlements.contract_id
        and months.contract_month = settlements.local_month
where
    months.contract_kind not in (from billed_kinds)
    or exists (
        select 1
        from {{ ref("stg_cloud_charges") }} as charges
        where
            months.site_id = charges.site_id
            and charges.charge_period_started_at < months.ended_at
            and charges.charge_period_ended_at > months.started_at
    )
