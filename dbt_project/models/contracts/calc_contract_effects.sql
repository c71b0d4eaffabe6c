{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

-- Energy that is taken at the contract's price is worth the market's: what it costs beyond is the contract's effect.
effects as (

    select
        settlements.contract_id,
        settlements.site_id,
        settlements.interval_started_at,
        settlements.interval_ended_at,
        settlements.utc_date,
        case
            when settlements.line in ('energy', 'shape')
                then settlements.amount - settlements.volume_mwh * settlements.settlement_price_per_mwh
            else settlements.amount
        end as contract_effect_cost,
        settlements.currency_code
    from {{ ref("fct_contract_settlements") }} as settlements
    inner join {{ source("raw", "contract_kinds") }} as kinds
        on
            settlements.contract_kind = kinds.contract_kind
            and kinds.is_ppa
    where {{ in_build_dates("settlements.utc_date") }}

)

select
    contract_id,
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    {{ sum_if_all_known("contract_effect_cost") }} as contract_effect_cost,
    currency_code
from effects
group by all
