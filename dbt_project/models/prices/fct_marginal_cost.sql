{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

{% set telemetry_hours = 1 %}
{% set full_ratio = 0.98 %}

with

balance as (

    select
        *,
        {{ interval_kwh_to_kw("grid_import_kwh") }} as import_kw
    from {{ ref("fct_energy_balance") }}
    where {{ in_build_dates("utc_date") }}

),

site_gpus as (

    select
        site_id,
        sum(gpu_count) / count(*) as gpus_per_node,
        {{ exact_sum("gpu_count * (peak_w - idle_w)") }} / sum(gpu_count) / 1000 as gpu_incremental_kw,
        {{ exact_sum("host_peak_w - host_idle_w") }} / sum(gpu_count) / 1000 as host_incremental_kw
    from {{ source("raw", "nodes") }}
    where gpu_count > 0
    group by site_id

),

telemetry as (

    select
        site_id,
        utc_date,
        {{ exact_sum("busy_kwh") }} as busy_kwh,
        {{ exact_sum("idle_kwh") }} as idle_kwh,
        {{ exact_sum("gpu_busy_s") }} / 3600 as busy_gpu_hours,
        {{ exact_sum("gpu_idle_s") }} / 3600 as idle_gpu_hours
    from {{ ref("stg_node_intervals") }}
    where {{ in_build_dates("utc_date") }}
    group by site_id, utc_date

),

-- Busy minus idle power of the site's GPUs that day, null where too little of either was seen to compare.
measured_power as (

    select
        site_id,
        utc_date,
        case
            when
                busy_gpu_hours >= {{ telemetry_hours }}
                and idle_gpu_hours >= {{ telemetry_hours }}
                and busy_kwh / busy_gpu_hours > idle_kwh / idle_gpu_hours
                then busy_kwh / busy_gpu_hours - idle_kwh / idle_gpu_hours
        end as gpu_incremental_kw
    from telemetry

),

-- The battery that would serve the next kWh: the cheapest of those with power and energy to spare.
batteries as (

    select
        batteries.site_id,
        batteries.interval_started_at,
        min(
            ledger.average_cost_per_mwh / batteries.discharge_efficiency_ratio + batteries.degradation_cost_per_mwh
        ) as battery_price_per_mwh
    from {{ ref("int_battery_intervals") }} as batteries
    inner join {{ ref("fct_battery_ledger") }} as ledger
        on
            batteries.battery_id = ledger.battery_id
            and batteries.interval_started_at = ledger.interval_started_at
    where
        batteries.is_available
        and batteries.usable_kwh > 0
        and {{ interval_kwh_to_kw("batteries.discharge_kwh") }}
        < {{ full_ratio }} * batteries.available_discharge_kw
        and {{ in_build_dates("batteries.utc_date") }}
        and {{ in_build_dates("ledger.utc_date") }}
    group by batteries.site_id, batteries.interval_started_at

),

allocations as (

    select
        contracts.site_id,
        contracts.valid_from_at,
        contracts.valid_to_at,
        contracts.price_per_node_hour,
        contracts.currency_code as contract_currency_code
    from {{ source("raw", "contracts") }} as contracts
    where contracts.kind = 'hpc_allocation'

),

allocated as (

    select
        site_id,
        interval_started_at,
        {{ exact_sum("allocated_gpu_hours") }} as allocated_gpu_hours
    from {{ ref("int_workload_intervals") }}
    where {{ in_build_dates("utc_date") }}
    group by site_id, interval_started_at

),

joined as (

    select
        balance.site_id,
        balance.interval_started_at,
        balance.interval_ended_at,
        balance.utc_date,
        balance.local_date,
        balance.local_month,
        balance.week,
        intervals.venue_kind,
        intervals.variable_cost_per_gpu_hour,
        balance.grid_export_kwh,
        balance.import_kw,
        peaks.is_new_monthly_peak,
        peaks.raises_billed_demand,
        balance.coverage_ratio,
        capacity.grid_mw,
        capacity.pue_ratio,
        prices.grid_energy_price_per_mwh,
        prices.network_per_mwh,
        prices.levies_per_mwh,
        prices.import_price_per_mwh,
        prices.export_price_per_mwh,
        prices.demand_charge_per_kw,
        batteries.site_id is not null as has_battery_headroom,
        batteries.battery_price_per_mwh,
        measured_power.gpu_incremental_kw is not null as is_incremental_power_measured,
        -- The host's part is not in the GPU's own counter: it follows in the proportion of the models' power.
        coalesce(measured_power.gpu_incremental_kw, site_gpus.gpu_incremental_kw)
        * (site_gpus.gpu_incremental_kw + site_gpus.host_incremental_kw)
        / nullif(site_gpus.gpu_incremental_kw, 0) as incremental_kwh_per_gpu_hour,
        allocations.price_per_node_hour
        * {{ exchange_rate("allocations.contract_currency_code", "balance.utc_date") }}
        / site_gpus.gpus_per_node as allocation_price_per_gpu_hour,
        allocated.allocated_gpu_hours,
        costs.market_valued_energy_cost,
        intervals.currency_code
    from balance
    inner join {{ ref("int_site_intervals") }} as intervals
        on
            balance.site_id = intervals.site_id
            and balance.interval_started_at = intervals.interval_started_at
    inner join {{ ref("fct_supply_capacity") }} as capacity
        on
            balance.site_id = capacity.site_id
            and balance.interval_started_at = capacity.interval_started_at
    inner join {{ ref("int_supply_prices") }} as prices
        on
            balance.site_id = prices.site_id
            and balance.interval_started_at = prices.interval_started_at
    left join {{ ref("int_demand_peaks") }} as peaks
        on
            balance.site_id = peaks.site_id
            and balance.interval_started_at = peaks.interval_started_at
    left join {{ ref("calc_energy_costs") }} as costs
        on
            balance.site_id = costs.site_id
            and balance.interval_started_at = costs.interval_started_at
    left join batteries
        on
            balance.site_id = batteries.site_id
            and balance.interval_started_at = batteries.interval_started_at
    left join site_gpus on balance.site_id = site_gpus.site_id
    left join measured_power
        on
            balance.site_id = measured_power.site_id
            and balance.utc_date = measured_power.utc_date
    left join allocated
        on
            balance.site_id = allocated.site_id
            and balance.interval_started_at = allocated.interval_started_at
    left join allocations
        on
            balance.site_id = allocations.site_id
            and {{ is_valid_at("allocations", "balance.interval_started_at") }}
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            allocations.contract_currency_code = fx_rates.currency_code
            and balance.utc_date = fx_rates.rate_date
    where {{ in_build_dates("balance.utc_date") }}

),

merit_order as (

    select
        *,
        case
            when grid_export_kwh > 0 then 'local_surplus'
            when import_kw < {{ full_ratio }} * grid_mw * 1000 then 'grid'
            when import_kw is null or grid_export_kwh is null then null
            when has_battery_headroom then 'battery'
            else 'constrained'
        end as marginal_source
    from joined

),

priced as (

    select
        *,
        case marginal_source
            -- Surplus that cannot be sold is given up for nothing.
            when 'local_surplus' then coalesce(export_price_per_mwh, 0)
            when 'grid' then grid_energy_price_per_mwh
            when 'battery' then battery_price_per_mwh
        end as energy_price_per_mwh,
        case marginal_source
            when 'grid' then network_per_mwh + levies_per_mwh
            when 'local_surplus' then 0
            when 'battery' then 0
        end as charges_per_mwh,
        {{ kwh_to_mwh("incremental_kwh_per_gpu_hour * pue_ratio") }} as facility_mwh_per_gpu_hour
    from merit_order

),

components as (

    select
        *,
        energy_price_per_mwh + charges_per_mwh as marginal_price_per_mwh,
        -- An allocation is charged by the node-hour, energy included.
        case when venue_kind = 'hpc_allocation' then 0 else facility_mwh_per_gpu_hour * energy_price_per_mwh end
            as marginal_energy_cost_per_gpu_hour,
        case when venue_kind = 'hpc_allocation' then 0 else facility_mwh_per_gpu_hour * charges_per_mwh end
            as network_and_levies_cost_per_gpu_hour,
        case
            when venue_kind = 'own_site' and marginal_source = 'grid'
                then
                    case
                        when raises_billed_demand then facility_mwh_per_gpu_hour * 1000 * demand_charge_per_kw
                        when not raises_billed_demand then 0
                    end
            when marginal_source is not null then 0
        end as demand_charge_cost_per_gpu_hour,
        case when venue_kind = 'hpc_allocation' then allocation_price_per_gpu_hour else 0 end
            as allocation_charge_per_gpu_hour,
        cast(0 as double) as cloud_charge_per_gpu_hour
    from priced

),

own_meters as (

    select
        *,
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
        case
            when venue_kind = 'hpc_allocation' then 0
            else market_valued_energy_cost / nullif(allocated_gpu_hours, 0)
        end
        + variable_cost_per_gpu_hour
        + allocation_charge_per_gpu_hour as market_valued_cost_per_gpu_hour
    from components

),

-- A cloud venue is known from its bill, by the hour. A commitment that is not used up costs nothing more to use.
cloud_hours as (

    select
        charges.site_id,
        charges.charge_period_started_at as interval_started_at,
        max(charges.charge_period_ended_at) as interval_ended_at,
        charges.utc_date,
        charges.currency_code,
        coalesce({{ exact_sum("charges.unused_gpu_hours") }}, 0) > 0 as has_unused_commitment,
        coalesce(
            max(charges.effective_cost / nullif(charges.gpu_hours, 0)) filter (
                where charges.pricing_category = 'Standard'
            ),
            max(charges.list_price_per_gpu_hour)
        ) as on_demand_price_per_gpu_hour,
        {{ exact_sum("charges.effective_cost") }} / nullif({{ exact_sum("charges.gpu_hours") }}, 0)
            as market_valued_cost_per_gpu_hour
    from {{ ref("stg_cloud_charges") }} as charges
    where
        charges.site_id is not null
        and coalesce(charges.gpu_hours, charges.unused_gpu_hours) > 0
        and {{ in_build_dates("charges.utc_date") }}
    group by charges.site_id, charges.charge_period_started_at, charges.utc_date, charges.currency_code

),

cloud as (

    select
        cloud_hours.*,
        cast(cloud_hours.interval_started_at at time zone sites.time_zone as date) as local_date,
        cast(
            date_trunc('month', cloud_hours.interval_started_at at time zone sites.time_zone) as date
        ) as local_month,
        {{ iso_week("cloud_hours.interval_started_at at time zone organization.time_zone") }} as week,
        case when cloud_hours.has_unused_commitment then 0 else cloud_hours.on_demand_price_per_gpu_hour end
            as cloud_charge_per_gpu_hour,
        coalesce(
            sites.variable_cost_per_gpu_hour * {{ exchange_rate("sites.currency_code", "cloud_hours.utc_date") }}, 0
        ) as variable_cost_per_gpu_hour
    from cloud_hours
    inner join {{ source("raw", "sites") }} as sites
        on
            cloud_hours.site_id = sites.site_id
            and {{ is_valid_at("sites", "cloud_hours.interval_started_at") }}
    cross join {{ source("raw", "organization") }} as organization
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            sites.currency_code = fx_rates.currency_code
            and cloud_hours.utc_date = fx_rates.rate_date

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
    incremental_kwh_per_gpu_hour,
    is_incremental_power_measured,
    pue_ratio,
    marginal_energy_cost_per_gpu_hour,
    network_and_levies_cost_per_gpu_hour,
    demand_charge_cost_per_gpu_hour,
    variable_cost_per_gpu_hour,
    allocation_charge_per_gpu_hour,
    cloud_charge_per_gpu_hour,
    marginal_cost_per_gpu_hour,
    market_valued_cost_per_gpu_hour,
    is_new_monthly_peak,
    coverage_ratio,
    currency_code
from own_meters

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
    case when has_unused_commitment then 'commitment' else 'on_demand' end as marginal_source,
    cast(null as double) as marginal_price_per_mwh,
    cast(null as double) as incremental_kwh_per_gpu_hour,
    cast(null as boolean) as is_incremental_power_measured,
    cast(null as double) as pue_ratio,
    0 as marginal_energy_cost_per_gpu_hour,
    0 as network_and_levies_cost_per_gpu_hour,
    0 as demand_charge_cost_per_gpu_hour,
    variable_cost_per_gpu_hour,
    0 as allocation_charge_per_gpu_hour,
    cloud_charge_per_gpu_hour,
    variable_cost_per_gpu_hour + cloud_charge_per_gpu_hour as marginal_cost_per_gpu_hour,
    market_valued_cost_per_gpu_hour + variable_cost_per_gpu_hour as market_valued_cost_per_gpu_hour,
    cast(null as boolean) as is_new_monthly_peak,
    1 as coverage_ratio,
    currency_code
from cloud
