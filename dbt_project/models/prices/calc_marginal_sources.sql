{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

balance as (

    select
        *,
        {{ interval_kwh_to_kw("grid_import_kwh") }} as import_kw
    from {{ ref("fct_energy_balance") }}
    where {{ in_build_dates("utc_date") }}

),

organization as (

    select *
    from {{ source("raw", "organization") }}

),

offers as (

    select
        batteries.battery_id,
        batteries.site_id,
        batteries.interval_started_at,
        ledger.average_cost_per_mwh / batteries.discharge_efficiency_ratio + batteries.degradation_cost_per_mwh
            as price_per_mwh,
        ledger.average_location_g_per_kwh / batteries.discharge_efficiency_ratio as location_based_g_per_kwh
    from {{ ref("int_battery_intervals") }} as batteries
    cross join organization
    inner join {{ ref("fct_battery_ledger") }} as ledger
        on
            batteries.battery_id = ledger.battery_id
            and batteries.interval_started_at = ledger.interval_started_at
    where
        batteries.is_available
        and batteries.usable_kwh > 0
        and {{ interval_kwh_to_kw("batteries.discharge_kwh") }}
        < organization.full_power_ratio * batteries.available_discharge_kw
        and {{ in_build_dates("batteries.utc_date") }}
        and {{ in_build_dates("ledger.utc_date") }}

),

-- The battery that would serve the next kWh: the cheapest of those with power and energy to spare.
batteries as (

    select *
    from offers
    qualify
        row_number() over (partition by site_id, interval_started_at order by price_per_mwh nulls last, battery_id) = 1

),

merit_order as (

    select
        balance.site_id,
        balance.interval_started_at,
        balance.utc_date,
        case
            when balance.grid_export_kwh > 0 then 'local_surplus'
            when balance.import_kw < organization.full_power_ratio * capacity.grid_mw * 1000 then 'grid'
            when balance.import_kw is null or balance.grid_export_kwh is null then null
            when batteries.site_id is not null then 'battery'
            else 'constrained'
        end as marginal_source,
        batteries.price_per_mwh as battery_price_per_mwh,
        batteries.location_based_g_per_kwh as battery_g_per_kwh,
        (generation.scope_1_g + generation.upstream_g) / nullif(balance.onsite_generation_kwh, 0)
            as generation_g_per_kwh
    from balance
    cross join organization
    inner join {{ ref("fct_supply_capacity") }} as capacity
        on
            balance.site_id = capacity.site_id
            and balance.interval_started_at = capacity.interval_started_at
            and {{ in_build_dates("capacity.utc_date") }}
    left join batteries
        on
            balance.site_id = batteries.site_id
            and balance.interval_started_at = batteries.interval_started_at
    left join {{ ref("int_generation_carbon") }} as generation
        on
            balance.site_id = generation.site_id
            and balance.interval_started_at = generation.interval_started_at
            and {{ in_build_dates("generation.utc_date") }}

)

select
    merit_order.site_id,
    merit_order.interval_started_at,
    merit_order.utc_date,
    merit_order.marginal_source,
    case merit_order.marginal_source
        -- Surplus that cannot be sold is given up for nothing.
        when 'local_surplus' then coalesce(prices.export_price_per_mwh, 0)
        when 'grid' then prices.grid_energy_price_per_mwh
        when 'battery' then merit_order.battery_price_per_mwh
    end as energy_price_per_mwh,
    case merit_order.marginal_source
        when 'grid' then prices.network_per_mwh + prices.levies_per_mwh
        when 'local_surplus' then 0
        when 'battery' then 0
    end as network_and_levies_per_mwh,
    case
        -- Where demand costs nothing, it does not matter which readings would tell it.
        when merit_order.marginal_source <> 'grid' or prices.demand_charge_per_kw = 0 then 0
        when merit_order.marginal_source = 'grid'
            then
                {{ used_times("peaks.peak_charge_ratio", "prices.demand_charge_per_kw * 1000") }}
                / peaks.demand_period_hours
    end as demand_charge_per_mwh,
    case merit_order.marginal_source
        when 'local_surplus' then merit_order.generation_g_per_kwh
        when 'grid' then grid.location_g_per_kwh
        when 'battery' then merit_order.battery_g_per_kwh
    end as location_based_g_per_kwh,
    peaks.is_new_monthly_peak,
    prices.currency_code
from merit_order
inner join {{ ref("int_supply_prices") }} as prices
    on
        merit_order.site_id = prices.site_id
        and merit_order.interval_started_at = prices.interval_started_at
        and {{ in_build_dates("prices.utc_date") }}
left join {{ ref("int_grid_carbon") }} as grid
    on
        merit_order.site_id = grid.site_id
        and merit_order.interval_started_at = grid.interval_started_at
        and {{ in_build_dates("grid.utc_date") }}
left join {{ ref("int_demand_peaks") }} as peaks
    on
        merit_order.site_id = peaks.site_id
        and merit_order.interval_started_at = peaks.interval_started_at
        and {{ in_build_dates("peaks.utc_date") }}
