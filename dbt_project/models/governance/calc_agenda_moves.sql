with

options as (

    select
        *,
        count(*) filter (where is_current and venue_kind = 'public_cloud') over (partition by week, workload_id)
        > cast(is_current and venue_kind = 'public_cloud' as integer) as is_from_cloud
    from {{ ref("fct_placement_options") }}

),

-- Work that may run elsewhere, and work that may wait where it runs, by the delay that is worth most.
changes as (

    select
        week,
        'venue' as change,
        workload_id,
        site_id,
        from_site_ids,
        is_from_cloud,
        cast(null as bigint) as delay_hours,
        movable_gpu_hours as gpu_hours,
        spare_gpu_hours,
        move_saving_value as weekly_value,
        move_saved_location_based_kg as weekly_saved_location_based_kg,
        coverage_ratio,
        currency_code
    from options
    where
        is_allowed
        and movable_gpu_hours > 0

    union all

    select
        week,
        'hour' as change,
        workload_id,
        site_id,
        from_site_ids,
        false as is_from_cloud,
        best_delay_hours as delay_hours,
        delayed_gpu_hours as gpu_hours,
        spare_gpu_hours,
        delay_saving_value as weekly_value,
        delay_saved_location_based_kg as weekly_saved_location_based_kg,
        delay_coverage_ratio as coverage_ratio,
        currency_code
    from options
    where delayed_gpu_hours > 0

),

weighed as (

    select
        changes.*,
        {{ worth_of("changes", "organization") }} as weekly_worth
    from changes
    cross join {{ source("raw", "organization") }} as organization

),

-- Of each workload the change that is worth most: its GPU-hours move once.
best as (

    select *
    from weighed
    where weekly_worth > 0
    qualify
        row_number() over (partition by week, workload_id order by weekly_worth desc, site_id asc, change asc) = 1

),

-- A venue has its free GPU-hours to give once: of a later change to it stands what the earlier ones leave.
claims as (

    select
        *,
        coalesce(
            {{ exact_sum(
                "gpu_hours",
                over="(partition by week, site_id order by weekly_worth desc, workload_id"
                ~ " rows between unbounded preceding and 1 preceding)"
            ) }}, 0
        ) as earlier_gpu_hours,
        case when earlier_gpu_hours = 0 then 1 else least((spare_gpu_hours - earlier_gpu_hours) / gpu_hours, 1) end
            as left_ratio
    from best

)

select
    week,
    change,
    workload_id,
    site_id,
    from_site_ids,
    is_from_cloud,
    delay_hours,
    gpu_hours * left_ratio as gpu_hours,
    weekly_value * left_ratio as weekly_value,
    weekly_saved_location_based_kg * left_ratio as weekly_saved_location_based_kg,
    weekly_worth * left_ratio as weekly_worth,
    coverage_ratio,
    currency_code
from claims
where
    earlier_gpu_hours = 0
    or spare_gpu_hours > earlier_gpu_hours
