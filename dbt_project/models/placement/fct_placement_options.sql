{# What may refuse a venue, and what it says where the rule fails and where it cannot be told. #}
{% set rules = [
    ("is_venue_kind_allowed", "venue_kind_not_allowed", none),
    ("is_country_allowed", "country_not_allowed", none),
    ("is_latency_allowed", "latency", "unknown_latency"),
    ("is_deferral_allowed", "deferral_limit", "unknown_availability"),
    ("has_allocation_left", "no_allocation_left", "unknown_allocation"),
    ("has_spare_capacity", "no_spare_capacity", "unknown_capacity"),
    ("is_cost_known", none, "unknown_cost"),
] %}

{{ config(materialized = "incremental", pre_hook = "{{ delete_delayed_weeks() }}") }}

-- depends_on: {{ ref("stg_jobs") }}
{% set first = first_delayed_week() %}

with

placed_intervals as (

    select *
    from {{ ref("calc_placed_intervals") }}
    where interval_started_at >= {{ first }}

),

venue_intervals as (

    select *
    from {{ ref("calc_venue_intervals") }}
    where interval_started_at >= {{ first }}

),

runs as (

    select
        placed.workload_id,
        placed.week,
        placed.site_id,
        venues.gpu_models,
        {{ exact_sum("placed.allocated_gpu_hours") }} as allocated_gpu_hours
    from placed_intervals as placed
    inner join {{ ref("int_workload_venues") }} as venues
        on
            placed.workload_id = venues.workload_id
            and placed.site_id = venues.site_id
    group by placed.workload_id, placed.week, placed.site_id, venues.gpu_models

),

-- Each workload at each venue, and what of it ran elsewhere: that could move here.
options as (

    select
        runs.week,
        venues.*,
        bool_or(runs.site_id = venues.site_id) as is_current,
        coalesce({{ exact_sum("runs.allocated_gpu_hours", "runs.site_id <> venues.site_id") }}, 0)
            as elsewhere_gpu_hours,
        string_agg(runs.site_id, ', ' order by runs.site_id) filter (where runs.site_id <> venues.site_id)
            as from_site_ids,
        {%- set is_same = "runs.site_id = venues.site_id or runs.gpu_models = venues.gpu_models" %}
        {{ if_all_known(is_same, "bool_and(" ~ is_same ~ ")") }} as is_same_gpu_model
    from runs
    inner join {{ ref("int_workload_venues") }} as venues on runs.workload_id = venues.workload_id
    group by all

),

-- The GPU-hours compared: those that ran elsewhere, or the venue's own where all of it ran here.
compared as (

    select
        options.workload_id,
        options.site_id,
        options.week,
        placed.interval_started_at,
        {{ exact_sum("placed.allocated_gpu_hours") }} as gpu_hours,
        {{ exact_sum("placed.avoidable_gpu_hours") }} as avoidable_gpu_hours,
        {{ if_all_known(
            "placed.marginal_cost_per_gpu_hour",
            weighted_mean("placed.marginal_cost_per_gpu_hour", "placed.allocated_gpu_hours"),
        ) }} as current_cost_per_gpu_hour,
        {{ sum_if_all_known(
            "placed.avoidable_gpu_hours * placed.avoidable_cost_per_gpu_hour",
            known="placed.avoidable_cost_per_gpu_hour",
        ) }}
        / nullif({{ exact_sum("placed.avoidable_gpu_hours") }}, 0) as avoided_cost_per_gpu_hour,
        {{ sum_if_all_known(
            "placed.avoidable_gpu_hours * placed.location_based_g_per_gpu_hour",
            known="placed.location_based_g_per_gpu_hour",
        ) }}
        / nullif({{ exact_sum("placed.avoidable_gpu_hours") }}, 0) as avoided_g_per_gpu_hour
    from options
    inner join placed_intervals as placed
        on
            options.workload_id = placed.workload_id
            and options.week = placed.week
            and (options.elsewhere_gpu_hours = 0 or options.site_id <> placed.site_id)
    group by all

),

priced as (

    select
        compared.workload_id,
        compared.site_id,
        compared.week,
        compared.gpu_hours,
        compared.current_cost_per_gpu_hour,
        intervals.marginal_cost_per_gpu_hour,
        intervals.location_based_g_per_gpu_hour,
        compared.current_cost_per_gpu_hour - intervals.marginal_cost_per_gpu_hour as saving_per_gpu_hour,
        compared.avoided_cost_per_gpu_hour - intervals.marginal_cost_per_gpu_hour as moved_saving_per_gpu_hour,
        compared.avoided_g_per_gpu_hour - intervals.location_based_g_per_gpu_hour as saved_g_per_gpu_hour,
        intervals.spare_gpu_hours,
        -- least() passes over nulls: where it is not known what is free, neither is what fits.
        case
            when intervals.spare_gpu_hours is not null then least(compared.gpu_hours, intervals.spare_gpu_hours)
        end as fitting_gpu_hours,
        case
            when intervals.spare_gpu_hours is not null and moved_saving_per_gpu_hour is not null
                then least(compared.avoidable_gpu_hours, intervals.spare_gpu_hours)
        end as movable_gpu_hours
    from compared
    left join venue_intervals as intervals
        on
            compared.site_id = intervals.site_id
            and compared.interval_started_at = intervals.interval_started_at

),

-- Both sides of a difference are means over the GPU-hours of which both are known.
figures as (

    select
        workload_id,
        site_id,
        week,
        {{ exact_sum("gpu_hours") }} as compared_gpu_hours,
        {{ exact_sum("gpu_hours", "saving_per_gpu_hour is not null") }} as known_gpu_hours,
        {{ exact_sum("gpu_hours * marginal_cost_per_gpu_hour", "saving_per_gpu_hour is not null") }} as marginal_cost,
        {{ exact_sum("gpu_hours * current_cost_per_gpu_hour", "saving_per_gpu_hour is not null") }} as current_cost,
        {{ exact_sum("gpu_hours * location_based_g_per_gpu_hour") }}
        / {{ exact_sum("gpu_hours", "location_based_g_per_gpu_hour is not null") }} as location_based_g_per_gpu_hour,
        count(spare_gpu_hours) = count(*) as is_spare_known,
        {{ exact_sum("fitting_gpu_hours") }} as fitting_gpu_hours,
        {{ exact_sum("movable_gpu_hours") }} as movable_gpu_hours,
        {{ exact_sum("movable_gpu_hours * moved_saving_per_gpu_hour") }} as saving_value,
        bool_and(movable_gpu_hours = 0 or saved_g_per_gpu_hour is not null)
        filter (where movable_gpu_hours is not null) as is_saved_carbon_known,
        coalesce({{ exact_sum("movable_gpu_hours * saved_g_per_gpu_hour") }}, 0) / 1000 as saved_location_based_kg
    from priced
    group by workload_id, site_id, week

),

conditions as (

    select
        site_id,
        week,
        {{ mean_of("availability_ratio") }} as mean_availability_ratio,
        count(availability_ratio) = count(*) as is_availability_known,
        min(availability_ratio) as minimum_availability_ratio,
        {{ sum_if_all_known("spare_gpu_hours") }} as spare_gpu_hours
    from venue_intervals
    group by site_id, week

),

-- Each rule holds (true), fails (false) or cannot be told (null).
ruled as (

    select
        options.*,
        figures.* exclude (workload_id, site_id, week), -- noqa: RF02
        conditions.mean_availability_ratio,
        conditions.spare_gpu_hours,
        case
            when options.elsewhere_gpu_hours = 0 or options.max_deferral_hours > 0 then true
            when conditions.minimum_availability_ratio < organization.full_availability_ratio then false
            when conditions.is_availability_known then true
        end as is_deferral_allowed,
        case
            when options.elsewhere_gpu_hours = 0 or options.venue_kind <> 'hpc_allocation' then true
            when allocations.left_node_hours <= 0 then false
            when allocations.is_known then true
        end as has_allocation_left,
        case
            when options.elsewhere_gpu_hours = 0 then true
            -- Tolerant work may move in part; what cannot wait must fit whole.
            when options.criticality = 'tolerant' and figures.fitting_gpu_hours > 0 then true
            when figures.is_spare_known
                then
                    options.criticality = 'sensitive'
                    and figures.fitting_gpu_hours >= figures.compared_gpu_hours
        end as has_spare_capacity,
        case when figures.known_gpu_hours > 0 then true end as is_cost_known
    from options
    cross join {{ source("raw", "organization") }} as organization
    inner join figures
        on
            options.workload_id = figures.workload_id
            and options.site_id = figures.site_id
            and options.week = figures.week
    left join conditions
        on
            options.site_id = conditions.site_id
            and options.week = conditions.week
    left join {{ ref("int_allocation_weeks") }} as allocations
        on
            options.site_id = allocations.site_id
            and options.week = allocations.week

),

-- A GPU-hour of another model is not the same amount of work: what moving saves is then not known.
judged as (

    select
        * exclude (saving_value, saved_location_based_kg),
        case when is_same_gpu_model then saving_value end as saving_value,
        case when is_same_gpu_model and is_saved_carbon_known then saved_location_based_kg end
            as saved_location_based_kg,
        {{ rules | map("first") | join(" and ") }} as is_allowed,
        nullif(
            concat_ws(
                ', '
                {%- for rule, refusal, unknown in rules if refusal %},
                case when not {{ rule }} then '{{ refusal }}' end
                {%- endfor %}
                {%- for rule, refusal, unknown in rules if unknown %},
                case when {{ rule }} is null then '{{ unknown }}' end
                {%- endfor %}
            ), ''
        ) as refusal_reasons,
        case
            when criticality = 'sensitive' or elsewhere_gpu_hours = 0 or not is_allowed then 0
            when is_allowed then 1
        end as movable_share
    from ruled

)

select
    judged.workload_id,
    judged.site_id,
    judged.week,
    judged.venue_kind,
    judged.gpu_models,
    judged.from_site_ids,
    judged.is_current,
    judged.is_same_gpu_model,
    judged.is_allowed,
    judged.refusal_reasons,
    judged.marginal_cost / nullif(judged.known_gpu_hours, 0) as venue_marginal_cost_per_gpu_hour,
    judged.location_based_g_per_gpu_hour as incremental_location_based_g_per_gpu_hour,
    judged.mean_availability_ratio,
    judged.spare_gpu_hours,
    judged.elsewhere_gpu_hours,
    judged.current_cost / nullif(judged.known_gpu_hours, 0) as current_marginal_cost_per_gpu_hour,
    (judged.current_cost - judged.marginal_cost) / nullif(judged.known_gpu_hours, 0) as move_saving_per_gpu_hour,
    {{ used_times("judged.movable_share", "judged.movable_gpu_hours") }} as movable_gpu_hours,
    {{ used_times("judged.movable_share", "judged.saving_value") }} as move_saving_value,
    {{ used_times("judged.movable_share", "judged.saved_location_based_kg") }} as move_saved_location_based_kg,
    delays.best_delay_hours,
    delays.delayed_gpu_hours,
    delays.saving_value as delay_saving_value,
    delays.saved_location_based_kg as delay_saved_location_based_kg,
    delays.coverage_ratio as delay_coverage_ratio,
    coalesce(judged.known_gpu_hours, 0) / judged.compared_gpu_hours as coverage_ratio,
    organization.reporting_currency as currency_code
from judged
left join {{ ref("calc_delay_options") }} as delays
    on
        judged.workload_id = delays.workload_id
        and judged.site_id = delays.site_id
        and judged.week = delays.week
cross join {{ source("raw", "organization") }} as organization
