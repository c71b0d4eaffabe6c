{{ config(materialized = "incremental", pre_hook = "{{ delete_delayed_weeks() }}") }}

{% set first = first_delayed_week() %}

{# The windows that tell of a shift, each with its first quarter and its hours, and what is asked of which. #}
{% set windows = {
    "start": ("started_quarter", "delay_hours"),
    "end": ("ended_quarter", "delay_hours"),
    "before_start": ("started_quarter - 672", "delay_hours"),
    "before_end": ("known_ended_quarter", "delay_hours"),
    "run_later": ("started_quarter + delay_quarters", "run_hours"),
} %}
{% set figures = [
    ("start", "avoidable_cost"), ("end", "marginal_cost"),
    ("start", "location_based_g"), ("end", "location_based_g"),
    ("before_start", "avoidable_cost"), ("before_end", "marginal_cost"),
    ("before_start", "location_based_g"), ("before_end", "location_based_g"),
    ("end", "least_spare_gpu_count"), ("run_later", "least_spare_gpu_count"),
    ("start", "is_incremental_power_measured"), ("end", "is_incremental_power_measured"),
] %}

with

-- The weeks to judge.
judged_weeks as (

    select {{ first }} as judged_from_at

),

-- From the weeks on of which all is read, since their jobs may stand before those to judge.
first_weeks as (

    select
        judged_weeks.judged_from_at,
        least(
            judged_weeks.judged_from_at,
            date_trunc('week', min(jobs.started_at) at time zone organization.time_zone)
            at time zone organization.time_zone
        ) as read_from_at
    from judged_weeks
    cross join {{ source("raw", "organization") }} as organization
    left join {{ ref("stg_jobs") }} as jobs
        on
            jobs.held_until_at >= judged_weeks.judged_from_at - interval 7 days
            and jobs.workload_id in (
                select tolerant.workload_id
                from {{ source("raw", "workloads") }} as tolerant
                where tolerant.criticality = 'tolerant'
            )
    group by judged_weeks.judged_from_at, organization.time_zone

),

-- Start and run time are taken to whole quarters of an hour, the grain of costs.
jobs as (

    select
        jobs.workload_id,
        jobs.site_id,
        {{ iso_week("jobs.started_at at time zone organization.time_zone") }} as week,
        jobs.cluster || ':' || jobs.job_id || ':' || epoch(jobs.started_at) as job_key,
        workloads.max_deferral_hours,
        jobs.gpu_count,
        jobs.gpu_count * epoch(jobs.held_until_at - jobs.started_at) / 3600 as gpu_hours,
        cast(epoch(jobs.started_at) as bigint) // 900 as started_quarter,
        -- Of a job that has not ended it is not known how long it takes.
        case
            when jobs.ended_at is not null
                then greatest(cast(round(epoch(jobs.ended_at - jobs.started_at) / 900) as bigint), 1)
        end as run_quarters,
        gpu_hours * 4 / run_quarters as mean_gpu_count,
        -- The windows that a run fits into, which begin where it would.
        list_min(
            list_filter({{ delay_hours() }}, lambda hours: hours * 4 >= run_quarters) -- noqa: RF02
        ) as run_hours,
        organization.carbon_price_per_tonne
    from {{ ref("stg_jobs") }} as jobs
    cross join {{ source("raw", "organization") }} as organization
    inner join {{ source("raw", "workloads") }} as workloads
        on
            jobs.workload_id = workloads.workload_id
            and workloads.criticality = 'tolerant'
            and workloads.max_deferral_hours >= 1
    where
        jobs.gpu_count > 0
        and jobs.held_until_at > jobs.started_at
        and jobs.started_at >= (select first_weeks.read_from_at from first_weeks)

),

shifts as (

    select
        *,
        unnest(
            list_filter({{ delay_hours() }}, lambda hours: hours <= max_deferral_hours) -- noqa: RF02
        ) as delay_hours,
        delay_hours * 4 as delay_quarters,
        started_quarter + run_quarters as ended_quarter,
        -- The latest weeks before the start that a window begun at its end lies in whole.
        ended_quarter - 672 * cast(ceil((run_quarters + delay_quarters) / 672) as bigint) as known_ended_quarter
    from jobs

),

looked_up as (

    {% for name, (quarter, window_hours) in windows.items() %}
    select
        job_key,
        delay_hours,
        site_id,
        '{{ name }}' as window_name,
        {{ quarter }} as quarter,
        {{ window_hours }} as window_hours
    from shifts
    {{ "union all" if not loop.last }}
    {% endfor %}

),

-- Read once, past what is looked up: of a long book there are many more windows than shifts.
seen as (

    select
        looked_up.job_key,
        {%- for name, figure in figures %}
        max(windows.{{ figure }}) filter (where looked_up.window_name = '{{ name }}') as {{ name }}_{{ figure }},
        {%- endfor %}
        looked_up.delay_hours
    from looked_up
    inner join {{ ref("calc_delay_windows") }} as windows
        on
            looked_up.site_id = windows.site_id
            and looked_up.quarter = windows.quarter
            and looked_up.window_hours = windows.delay_hours
    group by looked_up.job_key, looked_up.delay_hours

),

-- A job put off gives up its first hours and takes as many after its end: what lies between stays. What the same hours
-- of the week before cost is what could be known at its start.
valued as (

    select
        shifts.*,
        shifts.mean_gpu_count * (seen.start_avoidable_cost - seen.end_marginal_cost) as saving,
        shifts.mean_gpu_count * (seen.start_location_based_g - seen.end_location_based_g) / 1000 as saved_kg,
        shifts.mean_gpu_count * (
            seen.before_start_avoidable_cost - seen.before_end_marginal_cost
            + coalesce(seen.before_start_location_based_g - seen.before_end_location_based_g, 0)
            / 1e6
            * shifts.carbon_price_per_tonne
        ) as expected_worth,
        case
            when shifts.run_quarters >= shifts.delay_quarters then seen.end_least_spare_gpu_count
            else seen.run_later_least_spare_gpu_count
        end >= shifts.gpu_count as has_room,
        -- What a GPU takes as measured is not set against what it takes as declared.
        seen.start_is_incremental_power_measured = seen.end_is_incremental_power_measured as is_comparable
    from shifts
    left join seen
        on
            shifts.job_key = seen.job_key
            and shifts.delay_hours = seen.delay_hours

),

judged as (

    select
        *,
        is_comparable and saving is not null and expected_worth is not null and has_room is not null as is_known,
        coalesce(is_known and expected_worth > 0 and has_room, false) as is_put_off
    from valued

),

-- The delay that was to be expected to be worth most; where none is, the shortest stands for all.
best as (

    select
        workload_id,
        site_id,
        week,
        delay_hours
    from judged
    group by workload_id, site_id, week, delay_hours
    qualify
        row_number() over (
            partition by workload_id, site_id, week
            order by coalesce({{ exact_sum("expected_worth", "is_put_off") }}, 0) desc, delay_hours
        ) = 1

),

chosen as (

    select judged.*
    from judged
    inner join best
        on
            judged.workload_id = best.workload_id
            and judged.site_id = best.site_id
            and judged.week = best.week
            and judged.delay_hours = best.delay_hours

),

-- The quarters in which a job put off needs GPUs that it had not held.
needed as (

    select
        workload_id,
        site_id,
        week,
        job_key,
        started_quarter,
        gpu_count,
        unnest(
            range(greatest(ended_quarter, started_quarter + delay_quarters), ended_quarter + delay_quarters)
        ) as quarter
    from chosen
    where is_put_off

),

queued as (

    select
        *,
        {{ exact_sum(
            "gpu_count",
            over="(partition by workload_id, site_id, quarter order by started_quarter, job_key"
            ~ " rows between unbounded preceding and current row)"
        ) }} as queued_gpu_count
    from needed

),

-- What is free is taken in the order of starts; of the jobs before it each counts, whether it found room or not.
placed as (

    select
        queued.workload_id,
        queued.site_id,
        queued.week,
        queued.job_key
    from queued
    inner join {{ ref("calc_delay_windows") }} as windows
        on
            queued.site_id = windows.site_id
            and queued.quarter = windows.quarter
            and windows.delay_hours = 1
    group by queued.workload_id, queued.site_id, queued.week, queued.job_key
    having bool_and(queued.queued_gpu_count <= windows.spare_gpu_count)

),

figures as (

    select
        chosen.workload_id,
        chosen.site_id,
        chosen.week,
        chosen.delay_hours,
        coalesce({{ exact_sum("chosen.gpu_hours", "placed.job_key is not null") }}, 0) as delayed_gpu_hours,
        {{ exact_sum("chosen.saving", "placed.job_key is not null") }} as saving_value,
        {{ exact_sum("chosen.saved_kg", "placed.job_key is not null") }} as saved_location_based_kg,
        count(*) filter (where placed.job_key is not null and chosen.saved_kg is null) = 0 as is_saved_carbon_known,
        coalesce({{ exact_sum("chosen.gpu_hours", "chosen.is_known") }}, 0) / {{ exact_sum("chosen.gpu_hours") }}
            as coverage_ratio
    from chosen
    left join placed
        on
            chosen.workload_id = placed.workload_id
            and chosen.site_id = placed.site_id
            and chosen.week = placed.week
            and chosen.job_key = placed.job_key
    group by chosen.workload_id, chosen.site_id, chosen.week, chosen.delay_hours

)

select
    workload_id,
    site_id,
    week,
    case when delayed_gpu_hours > 0 then delay_hours end as best_delay_hours,
    case when coverage_ratio > 0 then delayed_gpu_hours end as delayed_gpu_hours,
    case when delayed_gpu_hours > 0 then saving_value when coverage_ratio > 0 then 0 end as saving_value,
    case
        when delayed_gpu_hours = 0 and coverage_ratio > 0 then 0
        when is_saved_carbon_known then saved_location_based_kg
    end as saved_location_based_kg,
    coverage_ratio
from figures
where {{ monday() }} + interval 1 day >= (select first_weeks.judged_from_at from first_weeks)
