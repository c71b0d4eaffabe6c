{# The hours put off, those of them that were caught up as they were due to run (the first), and as they ran. #}
{% set spans = [
    ("deferred", "deferred_from_at", "deferred_s"),
    ("original", "deferred_from_at", "caught_up_s"),
    ("caught_up", "resumed_at", "caught_up_s"),
] %}

with

intervals as (

    select
        site_id,
        interval_started_at,
        energy_and_network_cost_per_gpu_hour,
        location_based_g_per_gpu_hour,
        is_incremental_power_measured
    from {{ ref("calc_venue_intervals") }}

),

spans as (

    {% for kind, started_at, duration_s in spans %}
    select
        incident_id,
        site_id,
        workload_id,
        job_id,
        '{{ kind }}' as kind,
        gpu_count,
        {{ started_at }} as interval_started_at,
        {{ started_at }} + to_seconds({{ duration_s }}) as interval_ended_at
    from {{ ref("calc_deferred_jobs") }}
    where {{ duration_s }} > 0
    {{ "union all" if not loop.last }}
    {% endfor %}

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
        intervals.location_based_g_per_gpu_hour as g_per_gpu_hour,
        intervals.is_incremental_power_measured
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
        {{ if_all_known("g_per_gpu_hour", weighted_mean("g_per_gpu_hour", "gpu_hours")) }} as g_per_gpu_hour,
        min(is_incremental_power_measured) as is_incremental_power_measured
    from priced
    where kind = 'original'
    group by incident_id, site_id, job_id
    having min(is_incremental_power_measured) = max(is_incremental_power_measured)

),

movements as (

    select
        priced.site_id,
        priced.workload_id,
        priced.slice_started_at as moved_at,
        priced.kind,
        priced.gpu_hours,
        case
            when priced.kind = 'caught_up'
                then priced.gpu_hours * (originals.cost_per_gpu_hour - priced.cost_per_gpu_hour)
        end as saved_cost,
        case
            when priced.kind = 'caught_up'
                then priced.gpu_hours * (originals.g_per_gpu_hour - priced.g_per_gpu_hour) / 1000
        end as saved_location_based_kg
    from priced
    -- What a GPU takes as measured is not set against what it takes as declared.
    left join originals
        on
            priced.incident_id = originals.incident_id
            and priced.job_id = originals.job_id
            and priced.is_incremental_power_measured = originals.is_incremental_power_measured
    where priced.kind <> 'original'

    union all

    select
        site_id,
        workload_id,
        due_at as moved_at,
        'lapsed' as kind,
        gpu_count * lost_s / 3600 as gpu_hours,
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
        {%- for kind in ["deferred", "caught_up", "lapsed"] %}
        coalesce({{ exact_sum("movements.gpu_hours", "movements.kind = '" ~ kind ~ "'") }}, 0) as {{ kind }}_gpu_hours,
        {%- endfor %}
        {%- for saved in ["saved_cost", "saved_location_based_kg"] %}
        {{ sum_if_all_known("movements." ~ saved, condition="movements.kind = 'caught_up'", empty=0) }} as {{ saved }},
        {%- endfor %}
        {{ exact_sum("movements.gpu_hours", "movements.saved_cost is not null") }} as known_gpu_hours
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
    days.lapsed_gpu_hours,
    {{ exact_sum(
        "days.deferred_gpu_hours - days.caught_up_gpu_hours - days.lapsed_gpu_hours",
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
