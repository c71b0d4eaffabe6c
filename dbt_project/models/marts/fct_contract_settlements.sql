{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

volumes as (

    select *
    from {{ ref("int_contract_volumes") }}
    where {{ in_build_dates("utc_date") }}

),

exchanged as (

    select
        volumes.*,
        {{ exchange_rate("volumes.contract_currency_code", "volumes.utc_date") }} as exchange_rate
    from volumes
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            volumes.contract_currency_code = fx_rates.currency_code
            and volumes.utc_date = fx_rates.rate_date

),

converted as (

    select
        *,
        -- The source's own price where it is in the contract's currency: no detour over another currency.
        case
            when source_currency_code = contract_currency_code then source_price_per_mwh
            else settlement_price_per_mwh / exchange_rate
        end as contract_settlement_price_per_mwh
    from exchanged

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
    round(contract_amount * exchange_rate, 9) as amount,
    currency_code,
    quality
from settled
