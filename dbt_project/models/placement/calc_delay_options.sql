with

-- Quarters of an hour are counted, so that a delay is a sum of integers. A row per interval and delay is too much to
-- keep: those are read twice instead.
runs as not materialized (

    select
        placed.workload_id,
        placed.site_id,
        placed.week,
        cast(epoch(placed.interval_started_at) as bigint) // 900 as quarter,
        placed.allocated_gpu_hours,
        placed.avoidable_gpu_hours,
        placed.avoidable_cost_per_gpu_hour,
        placed.location_based_g_per_gpu_hour,
        unnest(range(1, cast(floor(workloads.max_deferral_hours) as bigint) + 1)) as delay_hours
    from {{ ref("calc_placed_intervals") }} as placed
    inner join {{ source("raw", "workloads") }} as workloads on placed.workload_id = workloads.workload_id
    where
        workloads.criticality = 'tolerant'
        and workloads.max_deferral_hours >= 1

),

venues as (

    select
        site_id,
        cast(epoch(interval_started_at) as bigint) // 900 as quarter,
        marginal_cost_per_gpu_hour,
        location_based_g_per_gpu_hour,
        spare_gpu_hours
    from {{ ref("calc_venue_intervals") }}

),

-- Each interval and the one so many hours later: of a given delay no free GPU-hour is met twice.
delayed as not materialized (

    select
        runs.workload_id,
        runs.site_id,
        runs.week,
        runs.delay_hours,
        runs.allocated_gpu_hours,
        runs.avoidable_cost_per_gpu_hour - later.marginal_cost_per_gpu_hour as saving_per_gpu_hour,
        runs.location_based_g_per_gpu_hour - later.location_based_g_per_gpu_hour as saved_g_per_gpu_hour,
        -- What a GPU-hour later is worth, CO2e at what avoiding it may cost; where that is not known, money alone.
        saving_per_gpu_hour + coalesce(saved_g_per_gpu_hour, 0) / 1e6 * {{ highest_cost_per_tonne() }}
            as worth_per_gpu_hour,
        case
            -- Where nothing can be avoided or nothing is free, nothing moves, whatever it would have cost.
            when runs.avoidable_gpu_hours = 0 or later.spare_gpu_hours = 0 then 0
            when later.spare_gpu_hours is not null and worth_per_gpu_hour > 0
                then least(runs.avoidable_gpu_hours, later.spare_gpu_hours)
            when later.spare_gpu_hours is not null and worth_per_gpu_hour <= 0 then 0
        end as movable_gpu_hours
    from runs
    left join venues as later
        on
            runs.site_id = later.site_id
            and runs.quarter + 4 * runs.delay_hours = later.quarter

),

worths as (

    select
        workload_id,
        site_id,
        week,
        delay_hours,
        {{ exact_sum("movable_gpu_hours * worth_per_gpu_hour") }} as worth
    from delayed
    where movable_gpu_hours > 0
    group by workload_id, site_id, week, delay_hours

),

-- Where no delay is worth anything the shortest stands for all.
best as (

    select
        runs.workload_id,
        runs.site_id,
        runs.week,
        coalesce(arg_max(worths.delay_hours, (worths.worth, -worths.delay_hours)), 1) as delay_hours
    from (
        select distinct
            workload_id,
            site_id,
            week
        from runs
    ) as runs
    left join worths
        on
            runs.workload_id = worths.workload_id
            and runs.site_id = worths.site_id
            and runs.week = worths.week
    group by runs.workload_id, runs.site_id, runs.week

),

figures as (

    select
        delayed.workload_id,
        delayed.site_id,
        delayed.week,
        delayed.delay_hours,
        {{ exact_sum("delayed.movable_gpu_hours") }} as delayed_gpu_hours,
        {{ exact_sum("delayed.movable_gpu_hours * delayed.saving_per_gpu_hour") }} as saving_value,
        {{ exact_sum("delayed.movable_gpu_hours * delayed.saved_g_per_gpu_hour", "delayed.movable_gpu_hours > 0") }}
        / 1000 as saved_location_based_kg,
        count(*) filter (where delayed.movable_gpu_hours > 0 and delayed.saved_g_per_gpu_hour is null) = 0
            as is_saved_carbon_known,
        coalesce({{ exact_sum("delayed.allocated_gpu_hours", "delayed.movable_gpu_hours is not null") }}, 0)
        / {{ exact_sum("delayed.allocated_gpu_hours") }} as coverage_ratio
    from delayed
    inner join best
        on
            delayed.workload_id = best.workload_id
            and delayed.site_id = best.site_id
            and delayed.week = best.week
            and delayed.delay_hours = best.delay_hours
    group by delayed.workload_id, delayed.site_id, delayed.week, delayed.delay_hours

)

select
    workload_id,
    site_id,
    week,
    case when delayed_gpu_hours > 0 then delay_hours end as best_delay_hours,
    delayed_gpu_hours,
    case when delayed_gpu_hours = 0 then 0 else saving_value end as saving_value,
    case
        when delayed_gpu_hours = 0 then 0
        when is_saved_carbon_known then saved_location_based_kg
    end as saved_location_based_kg,
    coverage_ratio
from figures
