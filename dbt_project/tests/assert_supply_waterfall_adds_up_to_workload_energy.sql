-- Returns rows (test failure) for workload days of which the sources do not give the energy of every layer, the cost
-- and the CO2e of fct_workload_energy. Terms of up to 100 intervals and a few sources are rounded to 1e-6 on both
-- sides.
with

waterfall as (

    select *
    from {{ ref("fct_supply_waterfall") }}
    where {{ in_build_dates("local_date", days_before=1) }}

),

-- One row per workload, site, local day and amount; what is not known of one source is not known of the day.
sources as (

    select
        workload_id,
        site_id,
        local_date,
        case layer when 'grid' then 'grid_uncontracted_kwh' else layer || '_kwh' end as amount_name,
        {{ sum_if_all_known("energy_kwh") }} as source_amount
    from waterfall
    group by workload_id, site_id, local_date, layer

    union all

    select
        workload_id,
        site_id,
        local_date,
        'market_valued_energy_cost' as amount_name,
        {{ sum_if_all_known("market_valued_energy_cost") }} as source_amount
    from waterfall
    group by workload_id, site_id, local_date

    union all

    select
        workload_id,
        site_id,
        local_date,
        'contract_effect_cost' as amount_name,
        {{ sum_if_all_known("contract_effect_cost") }} as source_amount
    from waterfall
    group by workload_id, site_id, local_date

    union all

    select
        workload_id,
        site_id,
        local_date,
        'location_based_kg' as amount_name,
        {{ sum_if_all_known("location_based_kg") }} as source_amount
    from waterfall
    group by workload_id, site_id, local_date

    union all

    select
        workload_id,
        site_id,
        local_date,
        'market_based_kg' as amount_name,
        {{ sum_if_all_known("market_based_kg") }} as source_amount
    from waterfall
    group by workload_id, site_id, local_date

    union all

    select
        workload_id,
        site_id,
        local_date,
        'hourly_matched_kg' as amount_name,
        {{ sum_if_all_known("hourly_matched_kg") }} as source_amount
    from waterfall
    group by workload_id, site_id, local_date

),

workloads as (

    unpivot (
        select
            workload_id,
            site_id,
            local_date,
            local_kwh,
            contracted_kwh,
            grid_uncontracted_kwh,
            market_valued_energy_cost,
            contract_effect_cost,
            location_based_kg,
            market_based_kg,
            hourly_matched_kg
        from {{ ref("fct_workload_energy") }}
        where {{ in_build_dates("local_date", days_before=1) }}
    )
    on columns(* exclude (workload_id, site_id, local_date))
    into name amount_name value workload_amount

),

-- Where what a source gave is unknown, nothing can be split between sources, though their sum be known.
days as (

    select
        workload_id,
        site_id,
        local_date,
        count(energy_kwh) = count(*) as is_split_known
    from waterfall
    group by workload_id, site_id, local_date

)

select
    workloads.*,
    sources.source_amount
from workloads
left join days
    on
        workloads.workload_id = days.workload_id
        and workloads.site_id = days.site_id
        and workloads.local_date = days.local_date
left join sources
    on
        workloads.workload_id = sources.workload_id
        and workloads.site_id = sources.site_id
        and workloads.local_date = sources.local_date
        and workloads.amount_name = sources.amount_name
where
    -- Nothing used needs no source.
    workloads.workload_amount <> 0
    and coalesce(
        abs(workloads.workload_amount - sources.source_amount) > 1e-3,
        days.is_split_known,
        true
    )
