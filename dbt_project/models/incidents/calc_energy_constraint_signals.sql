{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

intervals as (

    select *
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

conditions as (

    select
        intervals.*,
        supply.grid_mw,
        supply.effective_it_mw,
        supply.availability_ratio,
        supply.has_grid_outage,
        supply.curtailment_limit_mw,
        {{ interval_kwh_to_kw("balance.grid_import_kwh") }} as grid_import_kw,
        prices.spot_price_per_mwh,
        telemetry.power_constrained_s / nullif(telemetry.gpu_busy_s, 0) as power_capped_ratio,
        organization.full_power_ratio,
        organization.full_availability_ratio,
        organization.power_capped_ratio as capping_threshold_ratio
    from intervals
    cross join {{ source("raw", "organization") }} as organization
    left join {{ ref("fct_supply_capacity") }} as supply
        on
            intervals.site_id = supply.site_id
            and intervals.interval_started_at = supply.interval_started_at
            and {{ in_build_dates("supply.utc_date") }}
    left join {{ ref("fct_energy_balance") }} as balance
        on
            intervals.site_id = balance.site_id
            and intervals.interval_started_at = balance.interval_started_at
            and {{ in_build_dates("balance.utc_date") }}
    left join {{ ref("int_supply_prices") }} as prices
        on
            intervals.site_id = prices.site_id
            and intervals.interval_started_at = prices.interval_started_at
            and {{ in_build_dates("prices.utc_date") }}
    left join {{ ref("int_site_telemetry_intervals") }} as telemetry
        on
            intervals.site_id = telemetry.site_id
            and intervals.interval_started_at = telemetry.interval_started_at
            and {{ in_build_dates("telemetry.utc_date") }}

),

batteries as (

    select *
    from {{ ref("int_battery_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

shed_jobs as (

    select
        site_id,
        {{ interval_start("ended_at") }} as interval_started_at,
        count(*) as job_count,
        round({{ exact_sum("gpu_count") }}, 2) as gpu_count,
        string_agg(distinct comment, ', ' order by comment) as comments
    from {{ ref("stg_jobs") }}
    where
        comment like 'energy:%'
        and {{ in_build_dates("ended_at") }}
    group by site_id, {{ interval_start("ended_at") }}

),

signals as (

    select
        site_id,
        interval_started_at,
        'grid_outage' as signal,
        'no supply from the grid' as evidence
    from conditions
    where has_grid_outage

    union all

    select
        site_id,
        interval_started_at,
        'curtailment_order' as signal,
        'import limited to ' || printf('%.3f', curtailment_limit_mw) || ' MW' as evidence
    from conditions
    where curtailment_limit_mw is not null

    union all

    select
        site_id,
        interval_started_at,
        'connection_limit' as signal,
        printf('import at %.1f %% of %.3f MW', grid_import_kw / grid_mw / 10, grid_mw) as evidence
    from conditions
    where
        grid_mw > 0
        and grid_import_kw >= full_power_ratio * grid_mw * 1000

    union all

    select
        site_id,
        interval_started_at,
        'power_capping' as signal,
        printf(
            'GPUs held back by a lowered power limit or the power brake for %.1f %% of their busy time',
            power_capped_ratio * 100
        ) as evidence
    from conditions
    where power_capped_ratio >= capping_threshold_ratio

    union all

    select
        site_id,
        interval_started_at,
        'storage_unavailable' as signal,
        string_agg(battery_id, ', ' order by battery_id) || ' in fault, disconnected or without power' as evidence
    from batteries
    where not is_available
    group by site_id, interval_started_at

    union all

    select
        site_id,
        interval_started_at,
        'storage_depleted' as signal,
        string_agg(battery_id, ', ' order by battery_id) || ' at its reserve' as evidence
    from batteries
    where is_depleted
    group by site_id, interval_started_at

    union all

    select
        site_id,
        interval_started_at,
        'supply_shortfall' as signal,
        printf('%.3f of %.3f MW committed IT power', effective_it_mw, committed_it_mw) as evidence
    from conditions
    where availability_ratio < full_availability_ratio

    union all

    select
        site_id,
        interval_started_at,
        'price_stop' as signal,
        printf('spot at %.2f, stop at %.2f ', spot_price_per_mwh, price_stop_per_mwh)
        || currency_code || '/MWh' as evidence
    from conditions
    where spot_price_per_mwh >= price_stop_per_mwh

    union all

    select
        site_id,
        interval_started_at,
        'workload_shed' as signal,
        job_count || ' jobs on ' || format('{:.10g}', gpu_count) || ' GPUs ended (' || comments || ')' as evidence
    from shed_jobs

)

select
    intervals.site_id,
    intervals.interval_started_at,
    intervals.interval_ended_at,
    intervals.utc_date,
    signals.signal,
    case when signals.signal like 'storage_%' then 'local' else 'grid' end as layer,
    signals.evidence
from signals
inner join intervals
    on
        signals.site_id = intervals.site_id
        and signals.interval_started_at = intervals.interval_started_at
