with

-- A version of an invoice replaces all lines of the one before. Two counterparties may use the same number.
versions as (

    select
        *,
        rank() over (
            partition by contract_id, invoice_id
            order by {{ revised_at() }} desc, load_number desc
        ) as version_rank
    from {{ source("raw", "invoices") }}
    where {{ known_at_as_of() }}

),

revisions as (

    {{ latest_revision("versions", ["contract_id", "invoice_id", "invoice_line_number"], "version_rank = 1") }}

)

select
    contract_id,
    invoice_id,
    invoice_line_number,
    cast(date_trunc('month', billing_month) as date) as local_month,
    line,
    terms_from as terms_from_date,
    case
        when quantity_unit in ('Wh', 'kWh', 'MWh') then {{ kwh_to_mwh(to_kwh("quantity", "quantity_unit")) }}
        else quantity
    end as quantity,
    case when quantity_unit in ('Wh', 'kWh') then 'MWh' else quantity_unit end as quantity_unit,
    case
        when quantity_unit in ('Wh', 'kWh', 'MWh') then unit_price / ({{ kwh_to_mwh(to_kwh("1", "quantity_unit")) }})
        else unit_price
    end as unit_price,
    amount as invoice_amount,
    currency_code as invoice_currency_code,
    issued_at,
    known_at,
    source_file
from revisions
