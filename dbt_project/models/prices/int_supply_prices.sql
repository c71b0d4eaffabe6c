{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

tariffs as (

    select *
    from {{ source("raw", "tariffs") }}

),

connections as (

    select *
    from {{ source("raw", "grid_connections") }}

),

-- The tariff's own clock and calendar say which of its windows an interval lies in.
spans as (

    select distinct
        contract_id,
        site_id,
        time_zone,
        holiday_calendar,
        valid_from_at,
        valid_to_at
    from tariffs

),

dated as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        intervals.currency_code,
        intervals.bidding_zone,
        intervals.price_market,
        intervals.price_sequence,
        spans.contract_id,
        spans.valid_from_at,
        intervals.interval_started_at at time zone spans.time_zone as local_started_at,
        isodow(intervals.interval_started_at at time zone spans.time_zone) >= 6
        or holidays.holiday_date is not null as is_weekend_or_holiday
    from {{ ref("int_site_intervals") }} as intervals
    left join spans
        on
            intervals.site_id = spans.site_id
            and {{ is_valid_at("spans", "intervals.interval_started_at") }}
    left join {{ source("raw", "public_holidays") }} as holidays
        on
            spans.holiday_calendar = holidays.calendar
            and cast(intervals.interval_started_at at time zone spans.time_zone as date) = holidays.holiday_date
    where {{ in_build_dates("intervals.utc_date") }}

),

tariffed as (

    select
        dated.*,
        tariffs.price_basis,
        tariffs.currency_code as tariff_currency_code,
        fx_rates.rate_to_reporting as exchange_rate,
        tariffs.energy_price_per_mwh,
        tariffs.export_price_per_mwh as contract_export_price_per_mwh,
        tariffs.credits_contracted_energy
    from dated
    left join tariffs
        on
            dated.contract_id = tariffs.contract_id
            and dated.valid_from_at = tariffs.valid_from_at
            and {{ is_in_months("month(dated.local_started_at)", "tariffs.month_from", "tariffs.month_to") }}
            and {{ is_in_hours("hour(dated.local_started_at)", "tariffs.hour_from", "tariffs.hour_to") }}
            and (
                tariffs.day_kind = 'all'
                or (tariffs.day_kind = 'weekend_or_holiday') = dated.is_weekend_or_holiday
            )
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            tariffs.currency_code = fx_rates.currency_code
            and dated.utc_date = fx_rates.rate_date

),

connected as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        connections.network_per_mwh * fx_rates.rate_to_reporting as network_per_mwh,
        connections.levies_per_mwh * fx_rates.rate_to_reporting as levies_per_mwh,
        connections.demand_charge_per_kw * fx_rates.rate_to_reporting as demand_charge_per_kw
    from {{ ref("int_site_intervals") }} as intervals
    inner join connections
        on
            intervals.site_id = connections.site_id
            and {{ is_valid_at("connections", "intervals.interval_started_at") }}
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            connections.currency_code = fx_rates.currency_code
            and intervals.utc_date = fx_rates.rate_date
    where {{ in_build_dates("intervals.utc_date") }}

),

-- Each price in the currency it is owed in; what is owed on spot follows the spot price in that currency.
priced as (

    select
        tariffed.*,
        spot.price_per_mwh as spot_price_per_mwh,
        {{ in_contract_currency(
            "spot.source_price_per_mwh",
            "spot.source_currency_code",
            "tariffed.tariff_currency_code",
            "spot.price_per_mwh",
            "tariffed.exchange_rate"
        ) }} as contract_spot_price_per_mwh
    from tariffed
    left join {{ ref("int_market_prices") }} as spot
        on
            tariffed.bidding_zone = spot.zone
            and tariffed.price_market = spot.market
            and tariffed.price_sequence = spot.sequence
            and tariffed.interval_started_at = spot.interval_started_at
            and {{ in_build_dates("spot.utc_date") }}

),

owed as (

    select
        *,
        case
            when price_basis = 'spot_plus' then contract_spot_price_per_mwh + energy_price_per_mwh
            else energy_price_per_mwh
        end as contract_energy_price_per_mwh
    from priced

),

converted as (

    select
        owed.*,
        owed.contract_energy_price_per_mwh * owed.exchange_rate as grid_energy_price_per_mwh,
        connected.network_per_mwh,
        connected.levies_per_mwh,
        connected.demand_charge_per_kw
    from owed
    left join connected
        on
            owed.site_id = connected.site_id
            and owed.interval_started_at = connected.interval_started_at

)

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    contract_id,
    price_basis,
    spot_price_per_mwh,
    contract_spot_price_per_mwh,
    contract_energy_price_per_mwh,
    contract_export_price_per_mwh,
    tariff_currency_code as contract_currency_code,
    credits_contracted_energy,
    grid_energy_price_per_mwh,
    network_per_mwh,
    levies_per_mwh,
    grid_energy_price_per_mwh + network_per_mwh + levies_per_mwh as import_price_per_mwh,
    contract_export_price_per_mwh * exchange_rate as export_price_per_mwh,
    demand_charge_per_kw,
    currency_code
from converted
