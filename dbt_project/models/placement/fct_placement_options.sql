with

placed as (

    select *
    from {{ ref("calc_placed_intervals") }}

),

gpu_models as (

    select
        site_id,
        string_agg(distinct gpu_model, ', ' order by gpu_model) as gpu_models
    from {{ source("raw", "nodes") }}
    group by site_id

    union all

    select
        site_id,
        -- Of one SKU whose model is not known the venue's are not known.
        {{ if_all_known("gpu_model", "string_agg(distinct gpu_model, ', ' order by gpu_model)") }} as gpu_models
    from {{ source("raw", "cloud_skus") }}
    group by site_id

),

venues as (

    select distinct
        sites.site_id,
        sites.venue_kind,
        sites.country_code,
        gpu_models.gpu_models
    from {{ source("raw", "sites") }} as sites
    left join gpu_models on sites.site_id = gpu_models.site_id

),

placements as (

    select
        placed.workload_id,
        placed.week,
        placed.site_id,
        venues.gpu_models,
        {{ exact_sum("placed.allocated_gpu_hours") }} as allocated_gpu_hours
    from placed
    inner join venues on placed.site_id = venues.site_id
    group by placed.workload_id, placed.week, placed.site_id, venues.gpu_models

),

-- Each workload at each venue, and what of it ran elsewhere: that could move here.
options as (

    select
        runs.workload_id,
        runs.week,
        venues.site_id,
        venues.venue_kind,
        venues.country_code,
        venues.gpu_models,
        coalesce(bool_or(runs.site_id = venues.site_id), false) as is_current,
        coalesce({{ exact_sum("runs.allocated_gpu_hours", "runs.site_id <> venues.site_id") }}, 0)
            as elsewhere_gpu_hours,
        string_agg(runs.site_id, ', ' order by runs.site_id) filter (where runs.site_id <> venues.site_id)
            as from_site_ids,
        case
            when count(*) filter (where runs.site_id <> venues.site_id) = 0 then true
            when
                count(runs.gpu_models) filter (where runs.site_id <> venues.site_id)
                = count(*) filter (where runs.site_id <> venues.site_id)
                then bool_and(runs.gpu_models = venues.gpu_models) filter (where runs.site_id <> venues.site_id)
        end as is_same_gpu_model
    from placements as runs
    cross join venues
    group by
        runs.workload_id,
        runs.week,
        venues.site_id,
        venues.venue_kind,
        venues.country_code,
        venues.gpu_models

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
    inner join placed
        on
            options.workload_id = placed.workload_id
            and options.week = placed.week
            and (options.elsewhere_gpu_hours = 0 or options.site_id <> placed.site_id)
    group by options.workload_id, options.site_id, options.week, placed.interval_started_at

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
    left join {{ ref("calc_venue_intervals") }} as intervals
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
        coalesce({{ exact_sum("movable_gpu_hours") }}, 0) as movable_gpu_hours,
        coalesce({{ exact_sum("movable_gpu_hours * moved_saving_per_gpu_hour") }}, 0) as saving_value,
        coalesce(bool_and(saved_g_per_gpu_hour is not null) filter (where movable_gpu_hours > 0), true)
            as is_saved_carbon_known,
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
    from {{ ref("calc_venue_intervals") }}
    group by site_id, week

),

allocation_lines as (

    select
        contracts.site_id,
        contracts.contract_id,
        contracts.valid_from_at,
        contracts.valid_to_at,
        contracts.node_hours
    from {{ source("raw", "contracts") }} as contracts
    where contracts.kind = 'hpc_allocation'

),

-- What the book cannot know of an allocation, used before its first day, may have used it up.
allocations as (

    select
        settlements.site_id,
        {{ iso_week("settlements.interval_started_at at time zone organization.time_zone") }} as week,
        min(settlements.left_node_hours) as left_node_hours,
        bool_and(settlements.is_known) as is_known
    from (
        select
            lines.site_id,
            settled.interval_started_at,
            lines.node_hours
            - {{ exact_sum(
                "settled.quantity",
                over="(partition by lines.contract_id, lines.valid_from_at order by settled.interval_started_at)"
            ) }} as left_node_hours,
            settled.quantity is not null
            and min(settled.interval_started_at) over (partition by lines.contract_id, lines.valid_from_at)
            <= lines.valid_from_at as is_known
        from allocation_lines as lines
        inner join {{ ref("int_commitment_settlements") }} as settled
            on
                lines.contract_id = settled.contract_id
                and settled.line = 'node_hours'
                and {{ is_valid_at("lines", "settled.interval_started_at") }}
    ) as settlements
    cross join {{ source("raw", "organization") }} as organization
    group by all

),

-- Each rule holds (true), fails (false) or cannot be told (null).
rules as (

    select
        options.workload_id,
        options.site_id,
        options.week,
        list_contains(workloads.allowed_venues, options.venue_kind) as is_venue_kind_allowed,
        workloads.allowed_countries is null
        or list_contains(workloads.allowed_countries, options.country_code) as is_country_allowed,
        workloads.max_latency_ms is null or latencies.latency_ms <= workloads.max_latency_ms as is_latency_allowed,
        case
            when options.elsewhere_gpu_hours = 0 or workloads.max_deferral_hours > 0 then true
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
            when workloads.criticality = 'tolerant' and figures.fitting_gpu_hours > 0 then true
            when figures.is_spare_known
                then
                    workloads.criticality = 'sensitive'
                    and figures.fitting_gpu_hours >= figures.compared_gpu_hours
        end as has_spare_capacity,
        case when figures.known_gpu_hours > 0 then true end as is_cost_known
    from options
    cross join {{ source("raw", "organization") }} as organization
    inner join {{ source("raw", "workloads") }} as workloads on options.workload_id = workloads.workload_id
    left join {{ source("raw", "workload_latencies") }} as latencies
        on
            options.workload_id = latencies.workload_id
            and options.site_id = latencies.site_id
    inner join figures
        on
            options.workload_id = figures.workload_id
            and options.site_id = figures.site_id
            and options.week = figures.week
    left join conditions
        on
            options.site_id = conditions.site_id
            and options.week = conditions.week
    left join allocations
        on
            options.site_id = allocations.site_id
            and options.week = allocations.week

),

judged as (

    select
        workload_id,
        site_id,
        week,
        is_venue_kind_allowed
        and is_country_allowed
        and is_latency_allowed
        and is_deferral_allowed
        and has_allocation_left
        and has_spare_capacity
        and is_cost_known as is_allowed,
        nullif(
            concat_ws(
                ', ',
                case when not is_venue_kind_allowed then 'venue_kind_not_allowed' end,
                case when not is_country_allowed then 'country_not_allowed' end,
                case when not is_latency_allowed then 'latency' end,
                case when not is_deferral_allowed then 'deferral_limit' end,
                case when not has_allocation_left then 'no_allocation_left' end,
                case when not has_spare_capacity then 'no_spare_capacity' end,
                case when is_latency_allowed is null then 'unknown_latency' end,
                case when is_deferral_allowed is null then 'unknown_availability' end,
                case when has_allocation_left is null then 'unknown_allocation' end,
                case when has_spare_capacity is null then 'unknown_capacity' end,
                case when is_cost_known is null then 'unknown_cost' end
            ), ''
        ) as refusal_reasons
    from rules

),

moved as (

    select
        options.workload_id,
        options.site_id,
        options.week,
        case
            when workloads.criticality = 'sensitive' or options.elsewhere_gpu_hours = 0 or not judged.is_allowed then 0
            when judged.is_allowed then 1
        end as movable_share
    from options
    inner join judged
        on
            options.workload_id = judged.workload_id
            and options.site_id = judged.site_id
            and options.week = judged.week
    inner join {{ source("raw", "workloads") }} as workloads on options.workload_id = workloads.workload_id

)

select
    options.workload_id,
    options.site_id,
    options.week,
    options.venue_kind,
    options.gpu_models,
    options.from_site_ids,
    options.is_current,
    options.is_same_gpu_model,
    judged.is_allowed,
    judged.refusal_reasons,
    figures.marginal_cost / nullif(figures.known_gpu_hours, 0) as marginal_cost_per_gpu_hour,
    figures.location_based_g_per_gpu_hour,
    conditions.mean_availability_ratio,
    conditions.spare_gpu_hours,
    options.elsewhere_gpu_hours,
    figures.current_cost / nullif(figures.known_gpu_hours, 0) as current_cost_per_gpu_hour,
    (figures.current_cost - figures.marginal_cost) / nullif(figures.known_gpu_hours, 0) as saving_per_gpu_hour,
    moved.movable_share * figures.movable_gpu_hours as movable_gpu_hours,
    case
        when moved.movable_share = 0 then 0
        when options.is_same_gpu_model then moved.movable_share * figures.saving_value
    end as saving_value,
    case
        when moved.movable_share = 0 then 0
        when options.is_same_gpu_model and figures.is_saved_carbon_known
            then moved.movable_share * figures.saved_location_based_kg
    end as saved_location_based_kg,
    delays.best_delay_hours,
    delays.delayed_gpu_hours,
    delays.saving_value as delay_saving_value,
    delays.saved_location_based_kg as delay_saved_location_based_kg,
    delays.coverage_ratio as delay_coverage_ratio,
    coalesce(figures.known_gpu_hours, 0) / figures.compared_gpu_hours as coverage_ratio,
    organization.reporting_currency as currency_code
from options
inner join figures
    on
        options.workload_id = figures.workload_id
        and options.site_id = figures.site_id
        and options.week = figures.week
inner join judged
    on
        options.workload_id = judged.workload_id
        and options.site_id = judged.site_id
        and options.week = judged.week
inner join moved
    on
        options.workload_id = moved.workload_id
        and options.site_id = moved.site_id
        and options.week = moved.week
left join conditions
    on
        options.site_id = conditions.site_id
        and options.week = conditions.week
left join {{ ref("calc_delay_options") }} as delays
    on
        options.workload_id = delays.workload_id
        and options.site_id = delays.site_id
        and options.week = delays.week
cross join {{ source("raw", "organization") }} as organization
