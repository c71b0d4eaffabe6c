-- Returns rows (test failure) for statement lines that are not the sum of their intervals. Half a cent: each line is
-- rounded once, to the cent.
with

intervals as (

    select
        contract_id,
        local_month,
        line,
        terms_valid_from_at,
        case when not is_floating_price then unit_price end as fixed_unit_price,
        sum(contract_amount) as contract_amount,
        sum(amount) as amount
    from {{ ref("fct_contract_settlements") }}
    where {{ in_build_months() }}
    group by contract_id, local_month, line, terms_valid_from_at, fixed_unit_price

)

select
    statements.contract_id,
    statements.local_month,
    statements.statement_line_number,
    statements.contract_amount,
    statements.amount,
    intervals.contract_amount as intervals_contract_amount,
    intervals.amount as intervals_amount
from {{ ref("fct_contract_statements") }} as statements
left join intervals
    on
        statements.contract_id = intervals.contract_id
        and statements.local_month = intervals.local_month
        and statements.line = intervals.line
        and statements.terms_valid_from_at is not distinct from intervals.terms_valid_from_at
        and case when not statements.is_average_price then statements.unit_price end
        is not distinct from intervals.fixed_unit_price
where
    statements.contract_amount is not null
    and {{ in_build_months("statements.local_month") }}
    and (
        intervals.contract_id is null
        -- A hundred-thousandth more, where the sum of floats lies on half a cent.
        or abs(statements.contract_amount - intervals.contract_amount) > 0.00501
        or abs(statements.amount - intervals.amount) > 0.00501
    )
