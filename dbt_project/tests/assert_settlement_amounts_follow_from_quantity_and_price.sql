-- Returns rows (test failure) for settled intervals whose amount is not quantity times unit price. A millionth of the
-- currency: amounts are rounded to nine decimals and prices are floats.
select
    contract_id,
    line,
    interval_started_at,
    quantity,
    unit_price,
    contract_amount
from {{ ref("fct_contract_settlements") }}
where
    {{ in_build_dates("utc_date") }}
    and (
        abs(contract_amount - quantity * unit_price) > 0.000001
        -- Nothing of something costs nothing, known price or not, and what is free nothing however much of it
        -- there was.
        or (contract_amount is null) <> (
            coalesce(quantity <> 0, true) and coalesce(unit_price <> 0, true)
            and (quantity is null or unit_price is null)
        )
    )
