{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

balance as (

    select *
    from {{ ref("fct_energy_balance") }}
    where {{ in_build_dates("utc_date") }}

),

discharges as (

    select
        site_id,
        interval_started_at,
        case when count(discharge_cost) = count(*) then round(sum(discharge_cost), 9) end as discharge_cost
    from {{ ref("fct_battery_ledger") }}
    where {{ in_build_dates("utc_date") }}
    group by site_id, interval_started_at

),

generation as (

    select
        meters.site_id,
        readings.interval_started_at,
        round(sum({{ kwh_to_mwh("readings.energy_kwh") }} * meters.variable_cost_per_mwh), 9) as site_currency_cost
    from {{ ref("stg_meter_readings") }} as readings
    inner join {{ source("raw", "meters") }} as meters
        on
            readings.meter_id = meters.meter_id
            and readings.flow = meters.flow
            and meters.role = 'onsite_generation'
            and {{ is_valid_at("meters", "readings.interval_started_at") }}
    where {{ in_build_dates("readings.utc_date") }}
    group by meters.site_id, readings.interval_started_at

),

-- Energy that is taken at the contract's price is worth the market's: what it costs beyond is the contract's effect.
contract_effects as (

    select
        site_id,
        interval_started_at,
        case
            when line in ('energy', 'shape') then amount - volume_mwh * settlement_price_per_mwh
            else amount
        end as contract_cost
    from {{ ref("fct_contract_settlements") }}
    where
        (contract_kind like 'ppa_%' or contract_kind in ('vppa_cfd', 'collar'))
        and {{ in_build_dates("utc_date") }}

),

contracts as (

    select
        site_id,
        interval_started_at,
        case when count(contract_cost) = count(*) then round(sum(contract_cost), 9) end as contract_cost
    from contract_effects
    group by site_id, interval_started_at

),

costs as (

    select
        balance.site_id,
        balance.interval_started_at,
        balance.interval_ended_at,
        balance.utc_date,
        prices.currency_code,
        {{ used_times(kwh_to_mwh("balance.grid_supplied_kwh"), "prices.import_price_per_mwh") }} as grid_cost,
        case
            when balance.onsite_generation_kwh = 0 then 0
            else
                balance.local_generation_kwh / balance.onsite_generation_kwh
                * coalesce(generation.site_currency_cost, 0) * intervals.exchange_rate
        end as generation_cost,
        case
            when balance.battery_discharge_kwh = 0 then 0
            else balance.local_battery_kwh / balance.battery_discharge_kwh * discharges.discharge_cost
        end as battery_cost,
        case when contracts.site_id is null then 0 else contracts.contract_cost end as contract_cost
    from balance
    inner join {{ ref("int_site_intervals") }} as intervals
        on
            balance.site_id = intervals.site_id
            and balance.interval_started_at = intervals.interval_started_at
    left join {{ ref("int_supply_prices") }} as prices
        on
            balance.site_id = prices.site_id
            and balance.interval_started_at = prices.interval_started_at
    left join discharges
        on
            balance.site_id = discharges.site_id
            and balance.interval_started_at = discharges.interval_started_at
    left join generation
        on
            balance.site_id = generation.site_id
            and balance.interval_started_at = generation.interval_started_at
    left join contracts
        on
            balance.site_id = contracts.site_id
            and balance.interval_started_at = contracts.interval_started_at

)

select
    *,
    grid_cost + generation_cost + battery_cost as energy_cost
from costs
