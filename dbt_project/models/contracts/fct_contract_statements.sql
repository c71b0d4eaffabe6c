{{ config(materialized = "incremental", meta = {"month": "local_month"}) }}

with

contracts as (

    select
        contract_id,
        any_value(time_zone) as time_zone,
        any_value(rounding) as rounding,
        any_value(tax_treatment) as tax_treatment,
        any_value(tax_ratio) as tax_ratio,
        min(valid_from_at) as contract_started_at,
        max(coalesce(valid_to_at, timestamptz 'infinity')) as contract_ended_at
    from {{ source("raw", "contracts") }}
    group by contract_id

),

settlements as (

    select
        *,
        -- What follows a market has a price of its own in every interval: a statement shows their mean.
        case when not is_floating_price then unit_price end as fixed_unit_price
    from {{ ref("fct_contract_settlements") }}
    where {{ in_build_months() }}

),

months as (

    select
        settlements.contract_id,
        settlements.local_month,
        any_value(contracts.rounding) as rounding,
        any_value(contracts.tax_treatment) as tax_treatment,
        any_value(contracts.tax_ratio) as tax_ratio,
        max(settlements.interval_ended_at) < any_value(
            least(
                contracts.contract_ended_at,
                cast(settlements.local_month + interval 1 month as timestamp) at time zone contracts.time_zone
            )
        ) as is_open,
        min(settlements.interval_started_at) as first_started_at,
        date_diff(
            'minute',
            any_value(
                greatest(
                    contracts.contract_started_at,
                    cast(settlements.local_month as timestamp) at time zone contracts.time_zone
                )
            ),
            min(settlements.interval_started_at)
        ) // 15 as earlier_interval_count
    from settlements
    inner join contracts on settlements.contract_id = contracts.contract_id
    group by settlements.contract_id, settlements.local_month

),

lines as (

    select
        contract_id,
        any_value(site_id) as site_id,
        any_value(contract_kind) as contract_kind,
        local_month,
        line,
        terms_valid_from_at,
        fixed_unit_price,
        is_floating_price,
        string_agg(distinct nullif(clause_applied, 'none'), ', ' order by nullif(clause_applied, 'none'))
            as clauses_applied,
        count(clause_applied) = count(*) as are_clauses_known,
        round(sum(cast(quantity as decimal(38, 12))), 9) as quantity,
        any_value(quantity_unit) as quantity_unit,
        sum(cast(contract_amount as decimal(38, 9))) as contract_amount,
        any_value(contract_currency_code) as contract_currency_code,
        sum(cast(amount as decimal(38, 9))) as amount,
        any_value(currency_code) as currency_code,
        count(*) as interval_count,
        count(amount) as settled_interval_count,
        any_value(is_shadow) as is_shadow
    from settlements
    group by
        contract_id,
        local_month,
        line,
        terms_valid_from_at,
        fixed_unit_price,
        is_floating_price

),

rounded as (

    select
        lines.*,
        kind_lines.line_order,
        months.tax_treatment,
        months.tax_ratio,
        months.is_open,
        months.rounding,
        -- A book that begins in the middle of a month lacks the intervals before.
        case
            when lines.terms_valid_from_at < months.first_started_at then months.earlier_interval_count
            else 0
        end as earlier_interval_count,
        {{ round_money("lines.contract_amount", "months.rounding") }} as rounded_contract_amount,
        {{ round_money("lines.amount", "months.rounding") }} as rounded_amount
    from lines
    inner join months
        on
            lines.contract_id = months.contract_id
            and lines.local_month = months.local_month
    left join {{ source("raw", "contract_lines") }} as kind_lines
        on
            lines.contract_kind = kind_lines.contract_kind
            and lines.line = kind_lines.line

),

covered as (

    select
        *,
        interval_count + earlier_interval_count as expected_interval_count,
        interval_count + earlier_interval_count - settled_interval_count as missing_interval_count
    from rounded

)

select
    contract_id,
    site_id,
    contract_kind,
    local_month,
    row_number() over (
        partition by contract_id, local_month
        order by line_order, terms_valid_from_at, fixed_unit_price
    ) as statement_line_number,
    line,
    terms_valid_from_at,
    case when are_clauses_known then coalesce(clauses_applied, 'none') end as clause_applied,
    case when missing_interval_count = 0 then cast(quantity as double) end as quantity,
    quantity_unit,
    case
        when not is_floating_price then fixed_unit_price
        when missing_interval_count = 0
            then round(cast(contract_amount as double) / nullif(cast(quantity as double), 0), 9)
    end as unit_price,
    is_floating_price as is_average_price,
    case when missing_interval_count = 0 then rounded_contract_amount end as contract_amount,
    contract_currency_code,
    case when missing_interval_count = 0 then rounded_amount end as amount,
    currency_code,
    tax_treatment,
    tax_ratio,
    case
        when missing_interval_count = 0
            then {{ round_money("rounded_contract_amount * tax_ratio", "rounding") }}
    end as contract_tax_amount,
    expected_interval_count,
    missing_interval_count,
    round(1 - missing_interval_count / expected_interval_count, 9) as coverage_ratio,
    is_open,
    is_shadow
from covered
