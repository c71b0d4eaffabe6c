{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

volumes as (

    select *
    from {{ ref("int_contract_volumes") }}
    where {{ in_build_dates("utc_date") }}

),

converted as (

    select
        volumes.*,
        -- The source's own price where it is in the contract's currency: no detour over another currency.
        case
            when volumes.source_currency_code = volumes.contract_currency_code then volumes.source_price_per_mwh
            else
                volumes.settlement_price_per_mwh
                / {{ exchange_rate("volumes.contract_currency_code", "volumes.utc_date") }}
        end as contract_settlement_price_per_mwh
    from volumes
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            volumes.contract_currency_code = fx_rates.currency_code
            and volumes.utc_date = fx_rates.rate_date

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

priced as (

    select
        *,
        case contract_kind
            when 'ppa_pay_as_produced' then 'energy'
            when 'vppa_cfd' then 'difference'
        end as line,
        round(
            case contract_kind
                when 'ppa_pay_as_produced' then contract_price_per_mwh
                when 'vppa_cfd' then contract_price_per_mwh - floating_price_per_mwh
            end, 9
        ) as unit_price
    from floored

)

select
    contract_id,
    site_id,
    contract_kind,
    line,
    interval_started_at,
    interval_ended_at,
    utc_date,
    local_date,
    local_month,
    terms_valid_from_at,
    metered_kwh,
    volume_mwh,
    volume_mwh as quantity,
    'MWh' as quantity_unit,
    unit_price,
    contract_kind = 'vppa_cfd' as is_floating_price,
    contract_settlement_price_per_mwh,
    settlement_price_per_mwh,
    clause_applied,
    round({{ used_times("volume_mwh", "unit_price") }}, 9) as contract_amount,
    contract_currency_code,
    false as is_shadow,
    quality
from priced
