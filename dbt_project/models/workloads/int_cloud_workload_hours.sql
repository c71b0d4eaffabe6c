with

lines as (

    select
        site_id,
        workload_id,
        criticality,
        charge_period_started_at,
        -- A charge without length is one of its hour.
        greatest(charge_period_ended_at, charge_period_started_at + interval 1 microsecond) as charge_period_ended_at,
        gpu_hours,
        unused_gpu_hours,
        is_gpu_hours_unknown,
        pricing_category = 'Standard' as is_on_demand,
        effective_cost,
        currency_code
    from {{ ref("stg_cloud_charges") }}
    where
        site_id is not null
        and (coalesce(effective_cost <> 0, true) or workload_id <> 'unallocated')

),

hours as (

    select
        *,
        unnest(
            generate_series(
                date_trunc('hour', charge_period_started_at),
                charge_period_ended_at - interval 1 microsecond,
                interval 1 hour
            )
        ) as hour_started_at
    from lines

),

shares as (

    select
        *,
        epoch(
            least(charge_period_ended_at, hour_started_at + interval 1 hour)
            - greatest(charge_period_started_at, hour_started_at)
        ) / epoch(charge_period_ended_at - charge_period_started_at) as share_ratio
    from hours

)

select
    site_id,
    hour_started_at,
    cast(hour_started_at as date) as utc_date,
    workload_id,
    criticality,
    case
        when not bool_or(is_gpu_hours_unknown and workload_id <> 'idle')
            then coalesce({{ exact_sum("gpu_hours * share_ratio") }}, 0)
    end as allocated_gpu_hours,
    case
        when not bool_or(is_gpu_hours_unknown and workload_id <> 'idle')
            then coalesce({{ exact_sum("gpu_hours * share_ratio", "is_on_demand") }}, 0)
    end as on_demand_gpu_hours,
    case
        when not bool_or(is_gpu_hours_unknown and workload_id = 'idle')
            then coalesce({{ exact_sum("unused_gpu_hours * share_ratio") }}, 0)
    end as idle_gpu_hours,
    {{ sum_if_all_known("effective_cost * share_ratio") }} as cloud_cost,
    any_value(currency_code) as currency_code
from shares
group by site_id, hour_started_at, workload_id, criticality
