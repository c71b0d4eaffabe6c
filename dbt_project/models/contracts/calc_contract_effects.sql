{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

-- Energy that is taken at the contract's price is worth the market's: what it costs beyond is the contract's effect.
effects as (

    select
        contract_id,
        site_id,
        interval_started_at,
        interval_ended_at,
        utc_date,
        case
            when line in ('energy', 'shape') then amount - volume_mwh * settlement_price_per_mwh
            else amount
        end as contract_effect_cost,
        currency_code
    from {{ ref("fct_contract_settlements") }}
    where
        (contract_kind like 'ppa_%' or contract_kind in ('vppa_cfd', 'collar'))
        and {{ in_build_dates("utc_date") }}

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
