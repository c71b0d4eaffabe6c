with

volumes as (

    select
        settlements.contract_id,
        settlements.contract_kind,
        kinds.is_delivered,
        settlements.site_id,
        settlements.local_month,
        settlements.amount,
        settlements.currency_code,
        settlements.line,
        settlements.volume_mwh,
        settlements.settlement_price_per_mwh,
        -- What the same energy would have cost at the market; a contract for difference brings no energy.
        case
            when settlements.line = 'energy' then settlements.volume_mwh * settlements.settlement_price_per_mwh
            else 0
        end as spot_cost,
        settlements.line in ('energy', 'difference') as has_volume
    from {{ ref("fct_contract_settlements") }} as settlements
    inner join {{ source("raw", "contract_kinds") }} as kinds
        on
            settlements.contract_kind = kinds.contract_kind
            and kinds.is_ppa

),

months as (

    select
        contract_id,
        contract_kind,
        is_delivered,
        site_id,
        local_month,
        currency_code,
        {{ sum_if_all_known("volume_mwh", condition="has_volume") }} as volume_mwh,
        {{ sum_if_all_known("amount") }} as settlement_cost,
        {{ sum_if_all_known("spot_cost") }} as spot_cost,
        {{ exact_sum("volume_mwh * settlement_price_per_mwh", "has_volume") }} as market_value,
        count(amount) filter (where has_volume) / count(*) filter (where has_volume) as coverage_ratio
    from volumes
    group by contract_id, contract_kind, is_delivered, site_id, local_month, currency_code

)

select
    contract_id,
    contract_kind,
    site_id,
    local_month,
    volume_mwh,
    settlement_cost,
    spot_cost,
    spot_cost - settlement_cost as contract_saving_value,
    case
        when is_delivered then settlement_cost / nullif(volume_mwh, 0)
        else (market_value + settlement_cost) / nullif(volume_mwh, 0)
    end as average_price_per_mwh,
    market_value / nullif(volume_mwh, 0) as market_price_per_mwh,
    coverage_ratio,
    currency_code
from months
