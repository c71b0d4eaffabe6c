{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

generation_costs as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        {{ exact_sum("readings.energy_kwh * meters.variable_cost_per_mwh * intervals.exchange_rate") }}
        / nullif({{ exact_sum("readings.energy_kwh") }}, 0) as generation_cost_per_mwh
    from {{ ref("int_site_intervals") }} as intervals
    inner join {{ source("raw", "meters") }} as meters
        on
            intervals.site_id = meters.site_id
            and meters.role = 'onsite_generation'
            and {{ is_valid_at("meters", "intervals.interval_started_at") }}
    inner join {{ ref("int_meter_readings") }} as readings
        on
            meters.meter_id = readings.meter_id
            and meters.flow = readings.flow
            and intervals.interval_started_at = readings.interval_started_at
    where
        {{ in_build_dates("intervals.utc_date") }}
        and {{ in_build_dates("readings.utc_date") }}
    group by intervals.site_id, intervals.interval_started_at

),

-- Batteries that charge at the same time share the sources in proportion to what each takes.
sourced as (

    select
        batteries.*,
        case
            when batteries.charge_kwh = 0 then 0
            else {{ round_kwh(
                "balance.gen_to_charge_kwh * batteries.charge_kwh / nullif(balance.battery_charge_kwh, 0)"
            ) }}
        end as charge_from_generation_kwh,
        case
            when batteries.charge_kwh = 0 then 0
            else {{ round_kwh(
                "balance.grid_to_charge_kwh * batteries.charge_kwh / nullif(balance.battery_charge_kwh, 0)"
            ) }}
        end as charge_from_grid_kwh,
        coalesce(generation_costs.generation_cost_per_mwh, 0) as generation_cost_per_mwh,
        -- What burning fuel on site gives off is Scope 1, counted where it is burnt and not again here.
        generation.upstream_g / nullif(balance.onsite_generation_kwh, 0) as generation_g_per_kwh,
        generation.carbon_free_kwh / nullif(balance.onsite_generation_kwh, 0) as generation_carbon_free_ratio,
        prices.import_price_per_mwh,
        carbon.location_g_per_kwh,
        carbon.market_g_per_kwh,
        carbon.hourly_matched_g_per_kwh,
        carbon.carbon_free_ratio
    from {{ ref("int_battery_intervals") }} as batteries
    inner join {{ ref("fct_energy_balance") }} as balance
        on
            batteries.site_id = balance.site_id
            and batteries.interval_started_at = balance.interval_started_at
    left join {{ ref("int_supply_prices") }} as prices
        on
            batteries.site_id = prices.site_id
            and batteries.interval_started_at = prices.interval_started_at
            and {{ in_build_dates("prices.utc_date") }}
    left join {{ ref("int_grid_carbon") }} as carbon
        on
            batteries.site_id = carbon.site_id
            and batteries.interval_started_at = carbon.interval_started_at
            and {{ in_build_dates("carbon.utc_date") }}
    left join {{ ref("int_generation_carbon") }} as generation
        on
            batteries.site_id = generation.site_id
            and batteries.interval_started_at = generation.interval_started_at
            and {{ in_build_dates("generation.utc_date") }}
    left join generation_costs
        on
            batteries.site_id = generation_costs.site_id
            and batteries.interval_started_at = generation_costs.interval_started_at
    where
        {{ in_build_dates("batteries.utc_date") }}
        and {{ in_build_dates("balance.utc_date") }}

)

select
    battery_id,
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    capacity_kwh,
    charge_efficiency_ratio,
    discharge_efficiency_ratio,
    opening_stored_kwh,
    closing_stored_kwh,
    charge_kwh,
    discharge_kwh,
    charge_from_generation_kwh,
    charge_from_grid_kwh,
    import_price_per_mwh,
    location_g_per_kwh,
    market_g_per_kwh,
    hourly_matched_g_per_kwh,
    carbon_free_ratio,
    {{ used_times(kwh_to_mwh("charge_from_generation_kwh"), "generation_cost_per_mwh") }}
    + {{ used_times(kwh_to_mwh("charge_from_grid_kwh"), "import_price_per_mwh") }} as charge_cost,
    {% for method in ["location", "market", "hourly_matched"] -%}
    {{ used_times("charge_from_generation_kwh", "generation_g_per_kwh") }}
    + {{ used_times("charge_from_grid_kwh", method ~ "_g_per_kwh") }} as charge_{{ method }}_g,
    {% endfor -%}
    {{ used_times("charge_from_generation_kwh", "generation_carbon_free_ratio") }}
    + {{ used_times("charge_from_grid_kwh", "carbon_free_ratio") }} as charge_carbon_free_kwh,
    currency_code
from sourced
