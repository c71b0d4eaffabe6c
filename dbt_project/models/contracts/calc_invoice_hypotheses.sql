{# Amounts that each interval would have had; null where one cannot be told. #}
{% set hypotheses = [
    "known_amount",
    "unclaused_amount",
    "previous_year_amount",
    "next_year_amount",
    "cents",
    "exchanged_amount",
] %}

with

paired as (

    select
        *,
        invoice_currency_code <> contract_currency_code as is_exchanged,
        coalesce(invoiced_quantity_unit = settled_quantity_unit, false) as is_quantity_comparable
    from {{ ref("calc_invoice_lines") }}
    where
        invoice_id is not null
        and contract_amount is not null
        and not is_open

),

terms as (

    select
        contracts.*,
        kinds.volume_basis,
        kinds.is_collared,
        case when contracts.fixed_price_payer = 'counterparty' then -1 else 1 end as direction
    from {{ source("raw", "contracts") }} as contracts
    inner join {{ source("raw", "contract_kinds") }} as kinds on contracts.kind = kinds.contract_kind

),

-- A fixed escalation tells the price of the years around any year; an index only that of those the book has been in.
years as (

    select
        prices.*,
        case
            when terms.escalation_kind = 'fixed' and prices.escalation_ratio <> 1
                then prices.escalation_ratio / (1 + terms.escalation_ratio_per_year)
            else lag(prices.escalation_ratio) over terms_in_time
        end as previous_ratio,
        case
            when terms.escalation_kind = 'fixed'
                then prices.escalation_ratio * (1 + terms.escalation_ratio_per_year)
            else lead(prices.escalation_ratio) over terms_in_time
        end as next_ratio
    from {{ ref("int_contract_prices") }} as prices
    inner join terms
        on
            prices.contract_id = terms.contract_id
            and prices.terms_valid_from_at is not distinct from terms.valid_from_at
    window terms_in_time as (
        partition by prices.contract_id, prices.terms_valid_from_at
        order by prices.started_at
    )

),

intervals as (

    select
        paired.invoice_id,
        paired.invoice_line_number,
        settlements.contract_id,
        settlements.line,
        settlements.metered_kwh,
        settlements.quantity,
        settlements.unit_price,
        settlements.contract_settlement_price_per_mwh,
        settlements.clause_applied,
        settlements.contract_amount,
        settlements.amount,
        terms.rounding,
        terms.volume_basis,
        terms.is_collared,
        terms.direction,
        terms.share_of_plant,
        terms.baseload_mw,
        terms.price_per_mwh,
        terms.floor_price_per_mwh,
        terms.cap_price_per_mwh,
        years.contract_price_per_mwh,
        years.previous_ratio,
        years.next_ratio,
        readings.known_kwh,
        fx_rates.rate_to_reporting as invoice_rate_to_reporting,
        paired.is_exchanged,
        -- Whether the line grows with what the plant makes, or is what it leaves of the agreed power.
        case
            when settlements.line = 'shape' then -1
            when settlements.line = 'energy' and terms.shape_risk = 'buyer' then 1
            when
                settlements.line in ('energy', 'difference', 'certificates')
                and terms.volume_basis = 'plant'
                then 1
            else 0
        end as plant_sign,
        case
            when settlements.clause_applied = 'zero_floor'
                then greatest(settlements.contract_settlement_price_per_mwh, 0)
            else settlements.contract_settlement_price_per_mwh
        end as floating_price_per_mwh
    from paired
    inner join {{ ref("fct_contract_settlements") }} as settlements
        on
            paired.contract_id = settlements.contract_id
            and paired.local_month = settlements.local_month
            and paired.line = settlements.line
            and paired.terms_valid_from_at is not distinct from settlements.terms_valid_from_at
            and paired.is_average_price = settlements.is_floating_price
            and (paired.is_average_price or paired.settled_unit_price is not distinct from settlements.unit_price)
    inner join terms
        on
            settlements.contract_id = terms.contract_id
            and settlements.terms_valid_from_at is not distinct from terms.valid_from_at
    left join years
        on
            settlements.contract_id = years.contract_id
            and settlements.terms_valid_from_at is not distinct from years.terms_valid_from_at
            and settlements.interval_started_at >= years.started_at
            and settlements.interval_started_at < coalesce(years.ended_at, timestamptz 'infinity')
    left join {{ ref("int_invoice_readings") }} as readings
        on
            paired.contract_id = readings.contract_id
            and paired.local_month = readings.local_month
            and paired.issued_at = readings.issued_at
            and settlements.interval_started_at = readings.interval_started_at
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            paired.invoice_currency_code = fx_rates.currency_code
            and settlements.utc_date = fx_rates.rate_date

),

supposed as (

    select
        *,
        {%- for year in ["previous", "next"] %}
        case
            when {{ year }}_ratio is null then null
            when line = 'difference'
                then
                    round(
                        direction * (round(price_per_mwh * {{ year }}_ratio, 9) - floating_price_per_mwh), 9
                    )
            when line = 'energy' and is_collared
                then
                    round(
                        least(
                            greatest(floating_price_per_mwh, round(floor_price_per_mwh * {{ year }}_ratio, 9)),
                            round(cap_price_per_mwh * {{ year }}_ratio, 9)
                        ), 9
                    )
            when line = 'energy' then round(price_per_mwh * {{ year }}_ratio, 9)
        end as {{ year }}_year_price,
        {%- endfor %}
        case
            when plant_sign = 0 then quantity
            when clause_applied = 'no_volume' then 0
            when plant_sign = 1 then {{ kwh_to_mwh("known_kwh * share_of_plant") }}
            else round(quantity + {{ kwh_to_mwh("(metered_kwh - known_kwh) * share_of_plant") }}, 12)
        end as known_quantity,
        case
            when clause_applied <> 'no_volume' then quantity
            when plant_sign = 1 then {{ kwh_to_mwh("metered_kwh * share_of_plant") }}
            when volume_basis = 'baseload' and plant_sign = 0 then {{ interval_mw_to_mwh("baseload_mw") }}
        end as unclaused_quantity,
        case
            when clause_applied in ('none', 'no_volume') then unit_price
            when line = 'difference'
                then round(direction * (contract_price_per_mwh - contract_settlement_price_per_mwh), 9)
            when line = 'energy' and is_collared then round(contract_settlement_price_per_mwh, 9)
        end as unclaused_price
    from intervals

),

amounts as (

    select
        *,
        round({{ used_times("known_quantity", "unit_price") }}, 9) as known_amount,
        round({{ used_times("unclaused_quantity", "unclaused_price") }}, 9) as unclaused_amount,
        case when previous_ratio is not null then round({{ used_times("quantity", "previous_year_price") }}, 9) end
            as previous_year_amount,
        case when next_ratio is not null then round({{ used_times("quantity", "next_year_price") }}, 9) end
            as next_year_amount,
        {{ round_money("contract_amount", "rounding", decimals=9) }} as cents,
        case when is_exchanged then round(amount / invoice_rate_to_reporting, 9) end as exchanged_amount
    from supposed

),

sums as (

    select
        contract_id,
        invoice_id,
        invoice_line_number,
        any_value(rounding) as rounding,
        string_agg(distinct nullif(clause_applied, 'none'), ', ' order by nullif(clause_applied, 'none'))
            as clauses_applied,
        {%- for hypothesis in hypotheses %}
        {{ if_all_known(hypothesis, "sum(cast(" ~ hypothesis ~ " as decimal(38, 9)))") }} as {{ hypothesis }},
        {%- endfor %}
        round({{ if_all_known("known_quantity", "sum(cast(known_quantity as decimal(38, 12)))") }}, 9) as known_quantity
    from amounts
    group by contract_id, invoice_id, invoice_line_number

),

-- Days of whose rate the settled amount becomes the invoiced one: from the month before until the invoice.
exchange_days as (

    select
        paired.contract_id,
        paired.invoice_id,
        paired.invoice_line_number,
        max(contract_rates.rate_date) as exchange_date
    from paired
    inner join sums
        on
            paired.contract_id = sums.contract_id
            and paired.invoice_id = sums.invoice_id
            and paired.invoice_line_number = sums.invoice_line_number
    inner join {{ ref("stg_fx_rates") }} as contract_rates
        on
            paired.contract_currency_code = contract_rates.currency_code
            and contract_rates.rate_date
            between paired.local_month - interval 1 month and cast(paired.issued_at as date)
    inner join {{ ref("stg_fx_rates") }} as invoice_rates
        on
            paired.invoice_currency_code = invoice_rates.currency_code
            and contract_rates.rate_date = invoice_rates.rate_date
    where
        paired.is_exchanged
        and abs(
            {{ round_money(
                "paired.contract_amount * contract_rates.rate_to_reporting / invoice_rates.rate_to_reporting",
                "sums.rounding",
            ) }} - paired.invoice_amount
        ) < 0.005
    group by paired.contract_id, paired.invoice_id, paired.invoice_line_number

)

select
    paired.contract_id,
    paired.local_month,
    paired.invoice_id,
    paired.invoice_line_number,
    cast(sums.known_quantity as double) as known_quantity,
    {{ round_money("sums.known_amount", "sums.rounding") }} as known_reading_amount,
    sums.clauses_applied,
    {{ round_money("sums.unclaused_amount", "sums.rounding") }} as unclaused_amount,
    {{ round_money("sums.previous_year_amount", "sums.rounding") }} as previous_year_amount,
    {{ round_money("sums.next_year_amount", "sums.rounding") }} as next_year_amount,
    {{ round_money("sums.exchanged_amount", "sums.rounding") }} as exchanged_amount,
    exchange_days.exchange_date,
    {{ round_money("sums.cents", "sums.rounding") }} as rounded_by_interval_amount,
    case
        when paired.is_quantity_comparable
            then {{ round_money("paired.settled_quantity * paired.invoiced_unit_price", "sums.rounding") }}
    end as invoiced_price_amount,
    case
        when paired.is_quantity_comparable
            then {{ round_money("paired.invoiced_quantity * paired.settled_unit_price", "sums.rounding") }}
    end as invoiced_quantity_amount
from paired
inner join sums
    on
        paired.contract_id = sums.contract_id
        and paired.invoice_id = sums.invoice_id
        and paired.invoice_line_number = sums.invoice_line_number
left join exchange_days
    on
        paired.contract_id = exchange_days.contract_id
        and paired.invoice_id = exchange_days.invoice_id
        and paired.invoice_line_number = exchange_days.invoice_line_number
