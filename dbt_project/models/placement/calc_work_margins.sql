{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{% set sources = marginal_sources() | reject("equalto", "constrained") | list %}

with

work as (

    select
        interval_started_at,
        workload_id,
        {{ exact_sum("allocated_gpu_hours") }} as gpu_hours
    from {{ ref("calc_placed_intervals") }}
    where {{ in_build_dates("interval_started_at") }}
    group by interval_started_at, workload_id

),

-- How much a cloud has left to sell is not known, but the next GPU-hour on demand is there to be bought.
venues as (

    select
        *,
        case when marginal_source = 'on_demand' then true else spare_gpu_hours > 0 end as has_room
    from {{ ref("calc_venue_intervals") }}
    where {{ in_build_dates("interval_started_at") }}

),

offers as (

    select
        work.interval_started_at,
        work.workload_id,
        work.gpu_hours,
        venues.site_id,
        venues.marginal_source,
        venues.marginal_source = 'commitment' as is_commitment,
        venues.marginal_cost_per_gpu_hour,
        venues.spare_gpu_hours,
        venues.has_room
    from work
    inner join {{ ref("int_workload_venues") }} as allowed
        on
            work.workload_id = allowed.workload_id
            and allowed.is_venue_allowed
    inner join venues
        on
            allowed.site_id = venues.site_id
            and work.interval_started_at = venues.interval_started_at

),

-- Of each workload the cheapest idle commitment and the cheapest other venue.
cheapest as (

    select
        *,
        min(marginal_cost_per_gpu_hour) filter (where not is_commitment) over (
            partition by interval_started_at, workload_id
        ) as other_cost_per_gpu_hour
    from offers
    where
        has_room
        and marginal_cost_per_gpu_hour is not null
    qualify
        row_number() over (
            partition by interval_started_at, workload_id, is_commitment
            order by marginal_cost_per_gpu_hour, site_id
        ) = 1

),

-- An idle commitment serves of the work that would go there no more than its free hours; the rest goes to the other.
reaches as (

    select
        *,
        case
            when is_commitment
                then
                    least(
                        spare_gpu_hours
                        / {{ exact_sum("gpu_hours", over="(partition by interval_started_at, site_id)") }}, 1
                    )
        end as reach_ratio
    from cheapest
    where coalesce(not is_commitment or marginal_cost_per_gpu_hour < other_cost_per_gpu_hour, true)

),

parts as (

    select
        *,
        gpu_hours * coalesce(
            reach_ratio, 1 - max(reach_ratio) over (partition by interval_started_at, workload_id), 1
        ) as served_gpu_hours
    from reaches

),

served as (

    select
        interval_started_at,
        {{ weighted_mean("marginal_cost_per_gpu_hour", "served_gpu_hours") }} as marginal_cost_per_gpu_hour,
        {%- for source in sources %}
        coalesce({{ exact_sum("served_gpu_hours", "marginal_source = '" ~ source ~ "'") }}, 0)
            as {{ source }}_gpu_hours,
        {%- endfor %}
        {{ exact_sum("served_gpu_hours") }} as served_gpu_hours
    from parts
    group by interval_started_at

),

held as (

    select
        interval_started_at,
        {{ exact_sum("gpu_hours") }} as held_gpu_hours
    from work
    group by interval_started_at

),

-- A venue of which it is not known whether it has room, or what it costs, may be the cheapest.
unknown as (

    select distinct interval_started_at
    from offers
    where
        has_room is null
        or (has_room and marginal_cost_per_gpu_hour is null)

),

margins as (

    select
        held.interval_started_at,
        served.marginal_cost_per_gpu_hour,
        {%- for source in sources %}
        coalesce(served.{{ source }}_gpu_hours, 0) / held.held_gpu_hours as marginal_{{ source }}_ratio,
        {%- endfor %}
        1 - coalesce(served.served_gpu_hours, 0) / held.held_gpu_hours as marginal_constrained_ratio
    from held
    anti join unknown on held.interval_started_at = unknown.interval_started_at
    left join served on held.interval_started_at = served.interval_started_at

),

capacity as (

    select
        interval_started_at,
        {{ sum_if_all_known(
            "spare_gpu_hours * marginal_cost_per_gpu_hour",
            known="case when spare_gpu_hours = 0 then 0 else spare_gpu_hours * marginal_cost_per_gpu_hour end",
        ) }}
        / nullif({{ exact_sum("spare_gpu_hours") }}, 0) as capacity_weighted_cost_per_gpu_hour
    from venues
    group by interval_started_at

)

select
    capacity.interval_started_at,
    cast(capacity.interval_started_at as date) as utc_date,
    margins.marginal_cost_per_gpu_hour,
    {%- for source in marginal_sources() %}
    margins.marginal_{{ source }}_ratio,
    {%- endfor %}
    capacity.capacity_weighted_cost_per_gpu_hour
from capacity
left join margins on capacity.interval_started_at = margins.interval_started_at
