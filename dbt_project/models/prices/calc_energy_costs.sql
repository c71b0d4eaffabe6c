{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

balance as (

    select *
    from {{ ref("fct_energy_balance") }}
    where {{ in_build_dates("utc_date") }}

),

generation as (

    select
        site_id,
        interval_started_at,
        {{ sum_if_all_known("generation_cost") }} as generation_cost
    from {{ ref("int_generation_meters") }}
    where {{ in_build_dates("utc_date") }}
    group by site_id, interval_started_at

),

contracts as (

    select
        site_id,
        interval_started_at,
        {{ sum_if_all_known("contract_effect_cost") }} as contract_effect_cost
    from {{ ref("calc_contract_effects") }}
    where {{ in_build_dates("utc_date") }}
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
        {{ used_times(to_load_ratio("generation"), "generation.generation_cost") }} as generation_cost,
        {{ used_times(to_load_ratio("battery"), "discharges.discharge_cost") }} as battery_cost,
        case when contracts.site_id is null then 0 else contracts.contract_effect_cost end as contract_effect_cost
    from balance
    left join {{ ref("int_supply_prices") }} as prices
        on
            balance.site_id = prices.site_id
            and balance.interval_started_at = prices.interval_started_at
            and {{ in_build_dates("prices.utc_date") }}
    left join {{ ref("calc_site_discharges") }} as discharges
        on
            balance.site_id = discharges.site_id
            and balance.interval_started_at = discharges.interval_started_at
            and {{ in_build_dates("discharges.utc_date") }}
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
    grid_cost + generation_cost + battery_cost as market_valued_energy_cost
from costs
