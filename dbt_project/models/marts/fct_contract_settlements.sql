{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

volumes as (

    select *
    from {{ ref("int_contract_volumes") }}
    where {{ in_build_dates("utc_date") }}

),

fx_rates as (

    select *
    from {{ source("raw", "fx_rates") }}

),

converted as (

    select
        volumes.*,
        fx_rates.rate_to_reporting,
        -- The source's own price where it is in the contract's currency: no detour over another currency.
        case
            when volumes.source_currency_code = volumes.contract_currency_code then volumes.source_price_per_mwh
            else volumes.settlement_price_per_mwh / nullif(fx_rates.rate_to_reporting, 0)
        end as contract_settlement_price_per_mwh
    from volumes
    asof left join fx_rates
        on
            volumes.contract_currency_code = fx_rates.currency_code
            and volumes.utc_date >= fx_rates.rate_date

),

floored as (

    select
        *,
        case
            when clause_applied = 'zero_floor' then greatest(contract_settlement_price_per_mwh, 0)
            else contract_settlement_price_per_mwh
        end as floating_price_per_mwh
    from converted

),

settled as (

    select
        *,
        round(
            case contract_kind
                when 'ppa_pay_as_produced' then volume_mwh * contract_price_per_mwh
                when 'vppa_cfd' then volume_mwh * (contract_price_per_mwh - floating_price_per_mwh)
            end, 9
        ) as contract_amount
    from floored

)

select
    contract_id,
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    local_date,
    local_month,
    contract_kind,
    metered_kwh,
    volume_mwh,
    contract_price_per_mwh,
    contract_settlement_price_per_mwh,
    settlement_price_per_mwh,
    clause_applied,
    contract_amount,
    contract_currency_code,
    round(contract_amount * rate_to_reporting, 9) as amount,
    currency_code,
    quality
from settled
