{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

site_nodes as (

    select
        site_id,
        sum(gpu_count) / count(*) as gpus_per_node
    from {{ source("raw", "nodes") }}
    where gpu_count > 0
    group by site_id

),

-- An allocation is charged by the node-hour, energy included.
allocations as (

    select
        contracts.site_id,
        contracts.valid_from_at,
        contracts.valid_to_at,
        contracts.price_per_node_hour,
        contracts.currency_code as contract_currency_code,
        site_nodes.gpus_per_node
    from {{ source("raw", "contracts") }} as contracts
    left join site_nodes on contracts.site_id = site_nodes.site_id
    where contracts.kind = 'hpc_allocation'

),

allocated as (

    select
        site_id,
        interval_started_at,
        {{ sum_if_all_known("allocated_gpu_hours") }} as allocated_gpu_hours
    from {{ ref("int_workload_intervals") }}
    where {{ in_build_dates("utc_date") }}
    group by site_id, interval_started_at

),

joined as (

    select
        sources.site_id,
        sources.interval_started_at,
        intervals.interval_ended_at,
        sources.utc_date,
        intervals.local_date,
        intervals.local_month,
        intervals.week,
        intervals.venue_kind,
        sources.marginal_source,
        sources.energy_price_per_mwh,
        sources.network_and_levies_per_mwh,
        sources.demand_charge_per_mwh,
        sources.location_based_g_per_kwh,
        sources.is_new_monthly_peak,
        energy.incremental_kwh_per_gpu_hour,
        energy.is_incremental_power_measured,
        capacity.applied_pue_ratio,
        capacity.coverage_ratio,
        {{ kwh_to_mwh("energy.incremental_kwh_per_gpu_hour * capacity.applied_pue_ratio") }}
            as facility_mwh_per_gpu_hour,
        intervals.variable_cost_per_gpu_hour,
        case
            when intervals.venue_kind = 'hpc_allocation'
                then
                    allocations.price_per_node_hour * fx_rates.rate_to_reporting / allocations.gpus_per_node
            else 0
        end as allocation_charge_per_gpu_hour,
        allocated.allocated_gpu_hours,
        costs.market_valued_energy_cost,
        case
            when sources.marginal_source = 'grid' and prices.price_basis = 'spot_plus'
                then prices.contract_spot_price_per_mwh * supply_rates.rate_to_reporting
            else 0
        end as spot_price_per_mwh,
        case
            when intervals.venue_kind = 'hpc_allocation' then fx_rates.rate_to_reporting
            else supply_rates.rate_to_reporting
        end as contract_exchange_ratio,
        intervals.currency_code
    from {{ ref("calc_marginal_sources") }} as sources
    inner join {{ ref("int_site_intervals") }} as intervals
        on
            sources.site_id = intervals.site_id
            and sources.interval_started_at = intervals.interval_started_at
            and {{ in_build_dates("intervals.utc_date") }}
    inner join {{ ref("fct_supply_capacity") }} as capacity
        on
            sources.site_id = capacity.site_id
            and sources.interval_started_at = capacity.interval_started_at
            and {{ in_build_dates("capacity.utc_date") }}
    left join {{ ref("int_incremental_energy") }} as energy
        on
            sources.site_id = energy.site_id
            and sources.utc_date = energy.utc_date
    left join {{ ref("calc_energy_costs") }} as costs
        on
            sources.site_id = costs.site_id
            and sources.interval_started_at = costs.interval_started_at
            and {{ in_build_dates("costs.utc_date") }}
    left join allocated
        on
            sources.site_id = allocated.site_id
            and sources.interval_started_at = allocated.interval_started_at
    left join allocations
        on
            sources.site_id = allocations.site_id
            and {{ is_valid_at("allocations", "sources.interval_started_at") }}
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            allocations.contract_currency_code = fx_rates.currency_code
            and sources.utc_date = fx_rates.rate_date
    left join {{ ref("int_supply_prices") }} as prices
        on
            sources.site_id = prices.site_id
            and sources.interval_started_at = prices.interval_started_at
            and {{ in_build_dates("prices.utc_date") }}
    left join {{ ref("stg_fx_rates") }} as supply_rates
        on
            prices.contract_currency_code = supply_rates.currency_code
            and sources.utc_date = supply_rates.rate_date
    where {{ in_build_dates("sources.utc_date") }}

),

components as (

    select
        *,
        energy_price_per_mwh + network_and_levies_per_mwh as marginal_price_per_mwh,
        case when venue_kind = 'hpc_allocation' then 0 else facility_mwh_per_gpu_hour * energy_price_per_mwh end
            as marginal_energy_cost_per_gpu_hour,
        case when venue_kind = 'hpc_allocation' then 0 else facility_mwh_per_gpu_hour * network_and_levies_per_mwh end
            as network_and_levies_cost_per_gpu_hour,
        case
            when venue_kind <> 'own_site' and marginal_source is not null then 0
            else {{ used_times("demand_charge_per_mwh", "facility_mwh_per_gpu_hour") }}
        end as demand_charge_cost_per_gpu_hour,
        cast(0 as double) as cloud_charge_per_gpu_hour,
        case
            when venue_kind = 'hpc_allocation' then 0
            else market_valued_energy_cost / nullif(allocated_gpu_hours, 0)
        end as market_valued_energy_cost_per_gpu_hour
    from joined

)

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    local_date,
    local_month,
    week,
    venue_kind,
    marginal_source,
    marginal_price_per_mwh,
    spot_price_per_mwh,
    contract_exchange_ratio,
    incremental_kwh_per_gpu_hour,
    is_incremental_power_measured,
    applied_pue_ratio,
    marginal_energy_cost_per_gpu_hour,
    network_and_levies_cost_per_gpu_hour,
    demand_charge_cost_per_gpu_hour,
    variable_cost_per_gpu_hour,
    allocation_charge_per_gpu_hour,
    cloud_charge_per_gpu_hour,
    case
        when marginal_source <> 'constrained'
            then
                marginal_energy_cost_per_gpu_hour
                + network_and_levies_cost_per_gpu_hour
                + demand_charge_cost_per_gpu_hour
                + variable_cost_per_gpu_hour
                + allocation_charge_per_gpu_hour
                + cloud_charge_per_gpu_hour
    end as marginal_cost_per_gpu_hour,
    market_valued_energy_cost_per_gpu_hour
    + variable_cost_per_gpu_hour
    + allocation_charge_per_gpu_hour as market_valued_cost_per_gpu_hour,
    incremental_kwh_per_gpu_hour * applied_pue_ratio * location_based_g_per_kwh
        as marginal_location_based_g_per_gpu_hour,
    is_new_monthly_peak,
    coverage_ratio,
    currency_code
from components

union all

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    local_date,
    local_month,
    week,
    'public_cloud' as venue_kind,
    marginal_source,
    cast(null as double) as marginal_price_per_mwh,
    cast(null as double) as spot_price_per_mwh,
    cast(null as double) as contract_exchange_ratio,
    cast(null as double) as incremental_kwh_per_gpu_hour,
    cast(null as boolean) as is_incremental_power_measured,
    cast(null as double) as applied_pue_ratio,
    0 as marginal_energy_cost_per_gpu_hour,
    0 as network_and_levies_cost_per_gpu_hour,
    0 as demand_charge_cost_per_gpu_hour,
    variable_cost_per_gpu_hour,
    0 as allocation_charge_per_gpu_hour,
    cloud_charge_per_gpu_hour,
    variable_cost_per_gpu_hour + cloud_charge_per_gpu_hour as marginal_cost_per_gpu_hour,
    average_charge_per_gpu_hour + variable_cost_per_gpu_hour as market_valued_cost_per_gpu_hour,
    cast(null as double) as marginal_location_based_g_per_gpu_hour,
    cast(null as boolean) as is_new_monthly_peak,
    1 as coverage_ratio,
    currency_code
from {{ ref("int_cloud_venue_hours") }}
where {{ in_build_dates("utc_date") }}
