{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{# What a venue known only from its bill does not have: its supply, and what a meter counted. #}
{% set supply_figures = [
    "effective_it_mw",
    "committed_it_mw",
    "headroom_it_mw",
    "headroom_gpu_count",
    "availability_ratio",
    "is_fully_available",
    "grid_mw",
    "local_mw",
    "local_generation_mw",
    "local_storage_mw",
    "local_availability_ratio",
    "local_committed_mw",
    "is_local_available",
] %}
{% set metered_figures = [
    "consumption_kwh",
    "facility_kwh",
    "it_kwh",
    "local_kwh",
    "contracted_kwh",
    "grid_uncontracted_kwh",
    "location_based_kg",
    "market_based_kg",
    "hourly_matched_kg",
    "scope_1_kg",
    "carbon_free_kwh",
    "renewable_kwh",
    "embodied_kg",
] %}

with

intervals as (

    select *
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

site_gpus as (

    select
        nodes.site_id,
        sum(nodes.gpu_count) as installed_gpu_count,
        {{ sum_if_all_known(
            used_times("nodes.gpu_count", "gpu_models.embodied_kg / gpu_models.lifetime_hours")
        ) }} as embodied_kg_per_hour
    from {{ source("raw", "nodes") }} as nodes
    left join {{ source("raw", "gpu_models") }} as gpu_models on nodes.gpu_model = gpu_models.gpu_model
    group by nodes.site_id

),

work as (

    select
        work.site_id,
        work.interval_started_at,
        -- The row unknown has none: of an interval with one they are not known.
        {{ sum_if_all_known("work.allocated_gpu_hours") }} as allocated_gpu_hours,
        case
            when count(work.allocated_gpu_hours) = count(*)
                then coalesce({{ exact_sum("work.allocated_gpu_hours", "workloads.criticality = 'sensitive'") }}, 0)
        end as allocated_gpu_hours_sensitive,
        case
            when count(work.allocated_gpu_hours) = count(*)
                then coalesce({{ exact_sum("work.allocated_gpu_hours", "workloads.criticality = 'tolerant'") }}, 0)
        end as allocated_gpu_hours_tolerant
    from {{ ref("int_workload_intervals") }} as work
    left join {{ source("raw", "workloads") }} as workloads on work.workload_id = workloads.workload_id
    where {{ in_build_dates("work.utc_date") }}
    group by work.site_id, work.interval_started_at

),

own as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        intervals.utc_date,
        intervals.local_date,
        intervals.week,
        intervals.currency_code,
        true as is_metered,
        -- Of a site without any meter nothing is read.
        coalesce(balance.coverage_ratio, 0) as coverage_ratio,
        {%- for figure in supply_figures %}
        supply.{{ figure }},
        {%- endfor %}
        marginal.marginal_source,
        marginal.marginal_cost_per_gpu_hour,
        -- An allocation's price does not hang on what its GPUs take.
        case when marginal.venue_kind = 'own_site' then marginal.is_incremental_power_measured end
            as is_incremental_power_measured,
        -- Six decimals each, so that sums rounded to six do not depend on the order of their terms.
        round(
            marginal.market_valued_cost_per_gpu_hour * work.allocated_gpu_hours + costs.contract_effect_cost, 6
        ) as contract_adjusted_cost,
        balance.consumption_kwh,
        balance.facility_kwh,
        balance.it_kwh,
        balance.local_kwh,
        balance.contracted_kwh,
        balance.grid_uncontracted_kwh,
        round(carbon.location_based_kg, 6) as location_based_kg,
        round(carbon.market_based_kg, 6) as market_based_kg,
        round(carbon.hourly_matched_kg, 6) as hourly_matched_kg,
        round(carbon.scope_1_kg, 6) as scope_1_kg,
        carbon.carbon_free_kwh,
        case when generation.site_id is null then 0 else generation.carbon_free_kwh end
        + round(grid_carbon.clean_kwh + grid_carbon.certificate_kwh, 6) as renewable_kwh,
        round(site_gpus.embodied_kg_per_hour / 4, 6) as embodied_kg,
        site_gpus.installed_gpu_count,
        work.allocated_gpu_hours,
        work.allocated_gpu_hours_sensitive,
        work.allocated_gpu_hours_tolerant
    from intervals
    left join {{ ref("fct_energy_balance") }} as balance
        on
            intervals.site_id = balance.site_id
            and intervals.interval_started_at = balance.interval_started_at
            and {{ in_build_dates("balance.utc_date") }}
    left join {{ ref("fct_supply_capacity") }} as supply
        on
            intervals.site_id = supply.site_id
            and intervals.interval_started_at = supply.interval_started_at
            and {{ in_build_dates("supply.utc_date") }}
    left join {{ ref("fct_marginal_cost") }} as marginal
        on
            intervals.site_id = marginal.site_id
            and intervals.interval_started_at = marginal.interval_started_at
            and {{ in_build_dates("marginal.utc_date") }}
    left join {{ ref("calc_energy_costs") }} as costs
        on
            intervals.site_id = costs.site_id
            and intervals.interval_started_at = costs.interval_started_at
            and {{ in_build_dates("costs.utc_date") }}
    left join {{ ref("fct_carbon") }} as carbon
        on
            intervals.site_id = carbon.site_id
            and intervals.interval_started_at = carbon.interval_started_at
            and {{ in_build_dates("carbon.utc_date") }}
    left join {{ ref("int_generation_carbon") }} as generation
        on
            intervals.site_id = generation.site_id
            and intervals.interval_started_at = generation.interval_started_at
            and {{ in_build_dates("generation.utc_date") }}
    left join {{ ref("int_grid_carbon") }} as grid_carbon
        on
            intervals.site_id = grid_carbon.site_id
            and intervals.interval_started_at = grid_carbon.interval_started_at
            and {{ in_build_dates("grid_carbon.utc_date") }}
    left join site_gpus on intervals.site_id = site_gpus.site_id
    left join work
        on
            intervals.site_id = work.site_id
            and intervals.interval_started_at = work.interval_started_at

),

-- A venue known only from its bill: hours, spread evenly over their quarters.
cloud_hours as (

    select
        hours.site_id,
        hours.hour_started_at,
        {{ sum_if_all_known("hours.allocated_gpu_hours") }} as allocated_gpu_hours,
        {{ sum_if_all_known("hours.allocated_gpu_hours", condition="hours.criticality = 'sensitive'", empty=0) }}
            as allocated_gpu_hours_sensitive,
        {{ sum_if_all_known("hours.allocated_gpu_hours", condition="hours.criticality = 'tolerant'", empty=0) }}
            as allocated_gpu_hours_tolerant,
        {{ sum_if_all_known("hours.cloud_cost") }} as cloud_cost
    from {{ ref("int_cloud_workload_hours") }} as hours
    where
        hours.workload_id <> 'unallocated'
        and {{ in_build_dates("hours.utc_date") }}
    group by hours.site_id, hours.hour_started_at

),

cloud_quarters as (

    select
        *,
        unnest(
            generate_series(hour_started_at, hour_started_at + interval 45 minutes, interval 15 minutes)
        ) as interval_started_at
    from cloud_hours

),

cloud as (

    select
        quarters.site_id,
        quarters.interval_started_at,
        cast(quarters.interval_started_at as date) as utc_date,
        cast(quarters.interval_started_at at time zone sites.time_zone as date) as local_date,
        {{ iso_week("quarters.interval_started_at at time zone organization.time_zone") }} as week,
        organization.reporting_currency as currency_code,
        false as is_metered,
        1 as coverage_ratio,
        {%- for figure in supply_figures %}
        cast(null as {{ "boolean" if figure.startswith("is_") else "double" }}) as {{ figure }},
        {%- endfor %}
        marginal.marginal_source,
        marginal.marginal_cost_per_gpu_hour,
        cast(null as boolean) as is_incremental_power_measured,
        round(quarters.cloud_cost / 4, 6) as contract_adjusted_cost,
        {%- for figure in metered_figures %}
        cast(null as double) as {{ figure }},
        {%- endfor %}
        cast(null as hugeint) as installed_gpu_count,
        quarters.allocated_gpu_hours / 4 as allocated_gpu_hours,
        quarters.allocated_gpu_hours_sensitive / 4 as allocated_gpu_hours_sensitive,
        quarters.allocated_gpu_hours_tolerant / 4 as allocated_gpu_hours_tolerant
    from cloud_quarters as quarters
    cross join {{ source("raw", "organization") }} as organization
    inner join {{ source("raw", "sites") }} as sites
        on
            quarters.site_id = sites.site_id
            and {{ is_valid_at("sites", "quarters.interval_started_at") }}
    left join {{ ref("fct_marginal_cost") }} as marginal
        on
            quarters.site_id = marginal.site_id
            and quarters.interval_started_at >= marginal.interval_started_at
            and quarters.interval_started_at < marginal.interval_ended_at

)

select * from own -- noqa: AM07

union all

select * from cloud
