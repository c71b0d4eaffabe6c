{# What we would have settled, had we reckoned as the invoice may have; the first that gives its amount is the cause. #}
{% set hypotheses = {
    "known_reading_amount": "later_reading",
    "unclaused_amount": "clause",
    "previous_year_amount": "escalation",
    "next_year_amount": "escalation",
    "rounded_by_interval_amount": "rounding",
    "invoiced_price_amount": "price",
} %}

with

contracts as (

    select
        contract_id,
        any_value(site_id) as site_id,
        any_value(kind) as contract_kind,
        any_value(currency_code) as contract_currency_code
    from {{ source("raw", "contracts") }}
    group by contract_id

),

exchanged as (

    select
        lines.*,
        contracts.site_id,
        contracts.contract_kind,
        contracts.contract_currency_code as agreed_currency_code,
        organization.reporting_currency,
        case
            when lines.statement_line_number is not null
                then case when not lines.is_open then lines.contract_amount end
            -- A line that the contract does not have settles at nothing, one of a month without statement is not known.
            when count(lines.statement_line_number) over (partition by lines.contract_id, lines.local_month) > 0 then 0
        end as settled_amount,
        hypotheses.known_quantity,
        hypotheses.clauses_applied,
        hypotheses.exchange_date,
        hypotheses.invoiced_quantity_amount,
        {%- for amount in hypotheses %}
        hypotheses.{{ amount }},
        {%- endfor %}
        invoice_rates.rate_to_reporting as invoice_rate_to_reporting,
        contract_rates.rate_to_reporting as contract_rate_to_reporting,
        -- What the settlement comes to in the currency of the invoice, each day at its own rate; that of the day of
        -- issue where there is nothing to compare.
        case
            when lines.invoice_currency_code = contracts.contract_currency_code then 1
            else
                coalesce(
                    lines.contract_amount / nullif(hypotheses.exchanged_amount, 0),
                    invoice_rates.rate_to_reporting / contract_rates.rate_to_reporting
                )
        end as invoice_to_contract_rate
    from {{ ref("calc_invoice_lines") }} as lines
    inner join contracts on lines.contract_id = contracts.contract_id
    cross join {{ source("raw", "organization") }} as organization
    left join {{ ref("calc_invoice_hypotheses") }} as hypotheses
        on
            lines.contract_id = hypotheses.contract_id
            and lines.invoice_id = hypotheses.invoice_id
            and lines.invoice_line_number = hypotheses.invoice_line_number
    left join {{ ref("stg_fx_rates") }} as invoice_rates
        on
            lines.invoice_currency_code = invoice_rates.currency_code
            and cast(lines.issued_at as date) = invoice_rates.rate_date
    left join {{ ref("stg_fx_rates") }} as contract_rates
        on
            contracts.contract_currency_code = contract_rates.currency_code
            and cast(lines.issued_at as date) = contract_rates.rate_date

),

lines as (

    select
        * exclude (contract_currency_code, currency_code),
        agreed_currency_code as contract_currency_code,
        reporting_currency as currency_code,
        case
            when invoice_id is null then 0
            when invoice_currency_code = agreed_currency_code then invoice_amount
            else {{ round_money("invoice_amount * invoice_to_contract_rate", "'half_up'", decimals=9) }}
        end as invoiced_amount
    from exchanged

),

judged as (

    select
        *,
        case
            when invoice_id is null then 'missing_in_invoice'
            when statement_line_number is null and settled_amount = 0 then 'not_in_settlement'
            when settled_amount is null or invoiced_amount is null then 'unknown'
            -- A cent is the smallest amount: what is less is no difference.
            when abs(round(invoiced_amount - settled_amount, 9)) < 0.01 then 'none'
            when exchange_date is not null then 'fx'
            when invoice_currency_code <> contract_currency_code then 'unknown'
            {%- for amount, cause in hypotheses.items() %}
            when abs(round(invoiced_amount - {{ amount }}, 9)) < 0.01 then '{{ cause }}'
            {%- endfor %}
            -- A volume is printed to the kilowatt-hour at least.
            when
                abs(round(invoiced_amount - invoiced_quantity_amount, 9))
                < greatest(0.01, abs(settled_unit_price) * 0.0005)
                then 'volume'
            else 'unknown'
        end as cause
    from lines

)

select
    contract_id,
    site_id,
    contract_kind,
    local_month,
    line,
    terms_valid_from_at,
    invoice_id,
    invoice_line_number,
    issued_at,
    statement_line_number,
    invoiced_quantity,
    invoiced_quantity_unit,
    settled_quantity,
    settled_quantity_unit,
    invoiced_unit_price,
    settled_unit_price,
    invoice_amount,
    invoice_currency_code,
    invoiced_amount,
    settled_amount,
    round(invoiced_amount - settled_amount, 9) as difference_amount,
    contract_currency_code,
    case
        when invoice_id is null and settled_amount is not null then -amount
        else
            round(
                (invoiced_amount - settled_amount)
                * coalesce(amount / nullif(settled_amount, 0), contract_rate_to_reporting),
                2
            )
    end as reporting_difference_amount,
    currency_code,
    cause,
    case
        when cause = 'missing_in_invoice' and settled_amount is null then 'Not invoiced; not settled yet either'
        when cause = 'missing_in_invoice'
            then format('Settled at {:,.2f} {}, not invoiced', settled_amount, contract_currency_code)
        when cause = 'not_in_settlement' then 'The contract settles no such line in this month'
        when cause = 'none' then 'Invoice and settlement agree'
        when cause = 'fx'
            then
                format(
                    'Billed in {} at the rate of {}; each day of delivery has its own',
                    invoice_currency_code,
                    cast(exchange_date as varchar)
                )
        when cause = 'later_reading'
            then
                format(
                    'Invoiced on the readings known on {}, {:,.3f} MWh; later ones make it {:,.3f} MWh',
                    cast(cast(issued_at as date) as varchar),
                    known_quantity,
                    settled_quantity
                )
        when cause = 'clause' then format('Invoiced without the clause {}', clauses_applied)
        when cause = 'escalation' and abs(round(invoiced_amount - previous_year_amount, 9)) < 0.01
            then 'Invoiced at the price of the contract year before'
        when cause = 'escalation' then 'Invoiced at the price of the contract year after'
        when cause = 'rounding' then 'Each interval rounded, not the line of the month'
        when cause = 'price'
            then
                format(
                    'Our volume at the invoiced price of {}, settled at {} {} per {}',
                    invoiced_unit_price,
                    settled_unit_price,
                    contract_currency_code,
                    settled_quantity_unit
                )
        when cause = 'volume'
            then
                format(
                    'Our price for the invoiced {:,.3f}, settled for {:,.3f} {}',
                    invoiced_quantity,
                    settled_quantity,
                    settled_quantity_unit
                )
        when settled_amount is null and statement_line_number is null
            then 'The book has no statement of this contract for this month'
        when settled_amount is null and is_open then 'Not settled: the month is not over in the book'
        when settled_amount is null
            then
                format(
                    'Not settled: {} of {} intervals lack a reading or a price',
                    missing_interval_count,
                    expected_interval_count
                )
        when invoiced_amount is null
            then format('No exchange rate of {} on {}', invoice_currency_code, cast(cast(issued_at as date) as varchar))
        else 'None of the known causes makes up the invoiced amount'
    end as explanation
from judged
