-- Returns rows (test failure) for invoice lines, and statement lines of invoiced months, that do not stand in exactly
-- one row of the differences, and for differences that are not what was invoiced less what is settled.
with

invoice_lines as (

    select
        contract_id,
        local_month,
        'invoice ' || invoice_id || ' line ' || invoice_line_number as line_of
    from {{ ref("stg_invoices") }}

),

statement_lines as (

    select
        statements.contract_id,
        statements.local_month,
        'statement line ' || statements.statement_line_number as line_of
    from {{ ref("fct_contract_statements") }} as statements
    where exists (
        select 1
        from {{ ref("stg_invoices") }} as invoices
        where
            statements.contract_id = invoices.contract_id
            and statements.local_month = invoices.local_month
    )

),

expected as (

    select * from invoice_lines
    union all
    select * from statement_lines

),

found as (

    select
        contract_id,
        local_month,
        'invoice ' || invoice_id || ' line ' || invoice_line_number as line_of
    from {{ ref("fct_invoice_differences") }}
    where invoice_id is not null

    union all

    select
        contract_id,
        local_month,
        'statement line ' || statement_line_number as line_of
    from {{ ref("fct_invoice_differences") }}
    where statement_line_number is not null

),

stands as (

    select
        *,
        1 as expected_count,
        0 as found_count
    from expected

    union all

    select
        *,
        0 as expected_count,
        1 as found_count
    from found

),

counted as (

    select
        contract_id,
        local_month,
        line_of,
        sum(expected_count) as expected_count,
        sum(found_count) as found_count
    from stands
    group by contract_id, local_month, line_of

)

select
    contract_id,
    local_month,
    line_of
from counted
where expected_count <> 1 or found_count <> 1

union all

select
    contract_id,
    local_month,
    'difference of invoice ' || coalesce(invoice_id, 'none') as line_of
from {{ ref("fct_invoice_differences") }}
where
    (difference_amount is null) <> (invoiced_amount is null or settled_amount is null)
    -- A billionth, as the difference is rounded to.
    or abs(difference_amount - (invoiced_amount - settled_amount)) > 0.000000001
