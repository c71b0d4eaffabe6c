{# What an invoice line and a statement line share, the surest first; lines that name terms are paired by no less. #}
{% set stages = [["terms_from_date", "unit_price"], ["terms_from_date"], ["unit_price"], []] %}

with

contracts as (

    select
        contract_id,
        any_value(time_zone) as time_zone
    from {{ source("raw", "contracts") }}
    group by contract_id

),

invoiced_months as (

    select distinct
        contract_id,
        local_month
    from {{ ref("stg_invoices") }}

),

statements as (

    select
        statements.*,
        cast(statements.terms_valid_from_at at time zone contracts.time_zone as date) as terms_from_date
    from {{ ref("fct_contract_statements") }} as statements
    inner join invoiced_months
        on
            statements.contract_id = invoiced_months.contract_id
            and statements.local_month = invoiced_months.local_month
    inner join contracts on statements.contract_id = contracts.contract_id

),

-- Terms that the month does not know are as good as none.
known_terms as (

    select distinct
        contract_id,
        local_month,
        line,
        terms_from_date
    from statements

),

invoices as (

    select
        invoices.contract_id,
        invoices.local_month,
        invoices.line,
        invoices.invoice_id,
        invoices.invoice_line_number,
        invoices.issued_at,
        known_terms.terms_from_date,
        round(invoices.unit_price, 9) as unit_price
    from {{ ref("stg_invoices") }} as invoices
    left join known_terms
        on
            invoices.contract_id = known_terms.contract_id
            and invoices.local_month = known_terms.local_month
            and invoices.line = known_terms.line
            and invoices.terms_from_date = known_terms.terms_from_date

),

{% for keys in stages %}
{%- set shared = ["contract_id", "local_month", "line"] + keys %}
placed_invoices_{{ loop.index }} as (

    select
        *,
        row_number() over (
            partition by {{ shared | join(", ") }}
            order by unit_price, issued_at, invoice_id, invoice_line_number
        ) as place
    from {{ "invoices" if loop.first else "unpaired_invoices_" ~ loop.index0 }}
    {{ "where terms_from_date is null" if "terms_from_date" not in keys }}

),

placed_statements_{{ loop.index }} as (

    select
        *,
        row_number() over (partition by {{ shared | join(", ") }} order by unit_price, statement_line_number) as place
    from {{ "statements" if loop.first else "unpaired_statements_" ~ loop.index0 }}

),

pairs_{{ loop.index }} as (

    select
        invoices.contract_id,
        invoices.invoice_id,
        invoices.invoice_line_number,
        invoices.local_month,
        statements.statement_line_number
    from placed_invoices_{{ loop.index }} as invoices
    inner join placed_statements_{{ loop.index }} as statements
        on
            invoices.place = statements.place
            {%- for key in shared %}
            and invoices.{{ key }} = statements.{{ key }}
            {%- endfor %}

),

unpaired_invoices_{{ loop.index }} as (

    select invoices.*
    from {{ "invoices" if loop.first else "unpaired_invoices_" ~ loop.index0 }} as invoices
    left join pairs_{{ loop.index }} as pairs
        on
            invoices.contract_id = pairs.contract_id
            and invoices.invoice_id = pairs.invoice_id
            and invoices.invoice_line_number = pairs.invoice_line_number
    where pairs.invoice_id is null

),

unpaired_statements_{{ loop.index }} as (

    select statements.*
    from {{ "statements" if loop.first else "unpaired_statements_" ~ loop.index0 }} as statements
    left join pairs_{{ loop.index }} as pairs
        on
            statements.contract_id = pairs.contract_id
            and statements.local_month = pairs.local_month
            and statements.statement_line_number = pairs.statement_line_number
    where pairs.invoice_id is null

),

{% endfor %}
pairs as (

    {% for keys in stages %}
    select *
    from pairs_{{ loop.index }}
    {{ "union all" if not loop.last }}
    {% endfor %}

),

paired_invoices as (

    select
        invoices.*,
        pairs.statement_line_number
    from {{ ref("stg_invoices") }} as invoices
    left join pairs
        on
            invoices.contract_id = pairs.contract_id
            and invoices.invoice_id = pairs.invoice_id
            and invoices.invoice_line_number = pairs.invoice_line_number

)

select
    coalesce(invoices.contract_id, statements.contract_id) as contract_id,
    coalesce(invoices.local_month, statements.local_month) as local_month,
    coalesce(statements.line, invoices.line) as line,
    invoices.invoice_id,
    invoices.invoice_line_number,
    invoices.issued_at,
    invoices.terms_from_date,
    invoices.quantity as invoiced_quantity,
    invoices.quantity_unit as invoiced_quantity_unit,
    invoices.unit_price as invoiced_unit_price,
    invoices.invoice_amount,
    invoices.invoice_currency_code,
    statements.statement_line_number,
    statements.terms_valid_from_at,
    statements.quantity as settled_quantity,
    statements.quantity_unit as settled_quantity_unit,
    statements.unit_price as settled_unit_price,
    statements.is_average_price,
    statements.contract_amount,
    statements.contract_currency_code,
    statements.amount,
    statements.currency_code,
    statements.expected_interval_count,
    statements.missing_interval_count,
    statements.is_open
from paired_invoices as invoices
full outer join statements
    on
        invoices.contract_id = statements.contract_id
        and invoices.local_month = statements.local_month
        and invoices.statement_line_number = statements.statement_line_number
