with

intervals as (

    select
        site_id,
        interval_started_at,
        energy_and_network_cost_per_gpu_hour,
        location_based_g_per_gpu_hour
    from {{ ref("calc_venue_intervals") }}

),

spans as (

    select
        incident_id,
        site_id,
        workload_id,
        job_id,
        'deferred' as kind,
        gpu_count,
        deferred_from_at as interval_started_at,
        deferred_from_at + to_seconds(deferred_s) as interval_ended_at
    from {{ ref("calc_deferred_jobs") }}
    where deferred_s > 0

    union all

    -- The first of the hours put off are those caught up.
    select
        incident_id,
        site_id,
        workload_id,
        job_id,
        'original' as kind,
        gpu_count,
        deferred_from_at as interval_started_at,
        deferred_from_at + to_seconds(caught_up_s) as interval_ended_at
    from {{ ref("calc_deferred_jobs") }}
    where caught_up_s > 0

    union all

    select
        incident_id,
        site_id,
        workload_id,
        job_id,
        'caught_up' as kind,
        gpu_count,
        resumed_at as interval_started_at,
        resumed_at + to_seconds(caught_up_s) as interval_ended_at
    from {{ ref("calc_deferred_jobs") }}
    where caught_up_s > 0

),

slices as ({{ cut_to_intervals("spans") }}),

priced as (

    select
        slices.site_id,
        slices.workload_id,
        slices.job_id,
        slices.incident_id,
        slices.kind,
        slices.slice_started_at,
        slices.gpu_count * slices.overlap_s / 3600 as gpu_hours,
        intervals.energy_and_network_cost_per_gpu_hour as cost_per_gpu_hour,
        intervals.location_based_g_per_gpu_hour as g_per_gpu_hour
    from slices
    left join intervals
        on
            slices.site_id = intervals.site_id
            and slices.slice_started_at = intervals.interval_started_at

),

-- What a GPU-hour of each job would have needed when it was due to run, null where one interval is not known.
originals as (

    select
        incident_id,
        site_id,
        job_id,
        {{ if_all_known("cost_per_gpu_hour", weighted_mean("cost_per_gpu_hour", "gpu_hours")) }} as cost_per_gpu_hour,
        {{ if_all_known("g_per_gpu_hour", weighted_mean("g_per_gpu_hour", "gpu_hours")) }} as g_per_gpu_hour
    from priced
    where kind = 'original'
    group by incident_id, site_id, job_id

),

movements as (

    select
        priced.site_id,
        priced.workload_id,
        priced.slice_started_at as moved_at,
        case when priced.kind = 'deferred' then priced.gpu_hours end as deferred_gpu_hours,
        case when priced.kind = 'caught_up' then priced.gpu_hours end as caught_up_gpu_hours,
        cast(null as double) as lost_gpu_hours,
        case
            when priced.kind = 'caught_up'
                then priced.gpu_hours * (originals.cost_per_gpu_hour - priced.cost_per_gpu_hour)
        end as saved_cost,
        case
            when priced.kind = 'caught_up'
                then priced.gpu_hours * (originals.g_per_gpu_hour - priced.g_per_gpu_hour) / 1000
        end as saved_location_based_kg
    from priced
    left join originals
        on
            priced.incident_id = originals.incident_id
            and priced.job_id = originals.job_id
    where priced.kind <> 'original'

    union all

    select
        site_id,
        workload_id,
        due_at as moved_at,
        cast(null as double) as deferred_gpu_hours,
        cast(null as double) as caught_up_gpu_hours,
        gpu_count * lost_s / 3600 as lost_gpu_hours,
        cast(null as double) as saved_cost,
        cast(null as double) as saved_location_based_kg
    from {{ ref("calc_deferred_jobs") }}
    where lost_s > 0

),

days as (

    select
        movements.workload_id,
        movements.site_id,
        cast(movements.moved_at at time zone sites.time_zone as date) as local_date,
        coalesce({{ exact_sum("movements.deferred_gpu_hours") }}, 0) as deferred_gpu_hours,
        coalesce({{ exact_sum("movements.caught_up_gpu_hours") }}, 0) as caught_up_gpu_hours,
        coalesce({{ exact_sum("movements.lost_gpu_hours") }}, 0) as lost_gpu_hours,
        {{ sum_if_all_known("movements.saved_cost", of="count(movements.caught_up_gpu_hours)", empty=0) }}
            as saved_cost,
        {{ sum_if_all_known("movements.saved_location_based_kg", of="count(movements.caught_up_gpu_hours)", empty=0) }}
            as saved_location_based_kg,
        {{ exact_sum("movements.caught_up_gpu_hours", "movements.saved_cost is not null") }}
            as known_gpu_hours
    from movements
    inner join {{ source("raw", "sites") }} as sites
        on
            movements.site_id = sites.site_id
            and {{ is_valid_at("sites", "movements.moved_at") }}
    group by all

)

select
    days.workload_id,
    days.site_id,
    days.local_date,
    days.deferred_gpu_hours,
    days.caught_up_gpu_hours,
    days.lost_gpu_hours,
    {{ exact_sum(
        "days.deferred_gpu_hours - days.caught_up_gpu_hours - days.lost_gpu_hours",
        over="(partition by days.workload_id, days.site_id order by days.local_date)",
        decimals=6
    ) }} as outstanding_gpu_hours,
    days.saved_cost,
    days.saved_location_based_kg,
    case
        when days.caught_up_gpu_hours > 0 then coalesce(days.known_gpu_hours, 0) / days.caught_up_gpu_hours
    end as coverage_ratio,
    organization.reporting_currency as currency_code
from days
cross join {{ source("raw", "organization") }} as organization
