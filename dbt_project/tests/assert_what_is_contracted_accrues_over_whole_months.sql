-- Returns rows (test failure) for whole local months over which capacity or fixed fee do not add up to the power
-- contracted. A millionth: quantities of an interval are rounded to twelve decimals.
with

months as (

    select
        contract_id,
        line,
        local_month,
        terms_valid_from_at,
        sum(quantity) as quantity,
        count(*) as interval_count
    from {{ ref("fct_contract_settlements") }}
    where
        line in ('capacity', 'fixed_fee')
        and {{ in_build_months() }}
    group by contract_id, line, local_month, terms_valid_from_at

)

select
    months.contract_id,
    months.line,
    months.local_month,
    months.quantity,
    coalesce(connections.contracted_kw, contracts.tolled_mw) as contracted
from months
inner join {{ source("raw", "contracts") }} as contracts
    on
        months.contract_id = contracts.contract_id
        and months.terms_valid_from_at = contracts.valid_from_at
left join {{ source("raw", "grid_connections") }} as connections
    on
        months.contract_id = connections.contract_id
        and months.terms_valid_from_at = connections.valid_from_at
where
    months.interval_count = {{ month_intervals("months.local_month", "contracts.time_zone") }}
    and abs(months.quantity - coalesce(connections.contracted_kw, contracts.tolled_mw)) > 0.000001
