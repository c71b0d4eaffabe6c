{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

tariffed as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        intervals.currency_code,
        intervals.bidding_zone,
        intervals.price_market,
        intervals.price_sequence,
        tariffs.price_basis,
        {{ exchange_rate("tariffs.currency_code", "intervals.utc_date") }} as exchange_rate,
        tariffs.energy_price_per_mwh,
        tariffs.network_per_mwh,
        tariffs.levies_per_mwh,
        tariffs.demand_charge_per_kw,
        tariffs.export_price_per_mwh
    from {{ ref("int_site_intervals") }} as intervals
    left join {{ source("raw", "tariffs") }} as tariffs
        on
            intervals.site_id = tariffs.site_id
            and {{ is_valid_at("tariffs", "intervals.interval_started_at") }}
            and {{ is_in_months("month(intervals.local_month)", "tariffs.month_from", "tariffs.month_to") }}
            and {{ is_in_hours("intervals.local_hour", "tariffs.hour_from", "tariffs.hour_to") }}
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            tariffs.currency_code = fx_rates.currency_code
            and intervals.utc_date = fx_rates.rate_date
    where {{ in_build_dates("intervals.utc_date") }}

),

converted as (

    select
        tariffed.site_id,
        tariffed.interval_started_at,
        tariffed.interval_ended_at,
        tariffed.utc_date,
        tariffed.currency_code,
        tariffed.price_basis,
        spot.price_per_mwh as spot_price_per_mwh,
        tariffed.energy_price_per_mwh * tariffed.exchange_rate as energy_price_per_mwh,
        tariffed.network_per_mwh * tariffed.exchange_rate as network_per_mwh,
        tariffed.levies_per_mwh * tariffed.exchange_rate as levies_per_mwh,
        tariffed.demand_charge_per_kw * tariffed.exchange_rate as demand_charge_per_kw,
        tariffed.export_price_per_mwh * tariffed.exchange_rate as export_price_per_mwh
    from tariffed
    left join {{ ref("stg_market_prices") }} as spot
        on
            tariffed.bidding_zone = spot.zone
            and tariffed.price_market = spot.market
            and tariffed.price_sequence = spot.sequence
            and tariffed.interval_started_at = spot.interval_started_at

),

priced as (

    select
        *,
        case price_basis
            when 'spot' then spot_price_per_mwh + energy_price_per_mwh
            when 'fixed' then energy_price_per_mwh
        end as grid_energy_price_per_mwh
    from converted

)

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    price_basis,
    spot_price_per_mwh,
    grid_energy_price_per_mwh,
    network_per_mwh,
    levies_per_mwh,
    grid_energy_price_per_mwh + network_per_mwh + levies_per_mwh as import_price_per_mwh,
    export_price_per_mwh,
    demand_charge_per_kw,
    currency_code
from priced
