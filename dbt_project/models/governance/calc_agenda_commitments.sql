{# A commitment of which less than this share lies idle is well used. #}
{% set unused_ratio = 0.1 %}

with

settled as (

    select
        weeks.week,
        settlements.contract_id,
        settlements.site_id,
        {{ exact_sum("settlements.quantity", "settlements.line = 'commitment_unused'") }} as unused_gpu_hours,
        {{ exact_sum("settlements.quantity") }} as committed_gpu_hours,
        date_diff('hour', max(weeks.started_at), max(weeks.ended_at)) as week_hours,
        count(distinct time_bucket(interval 1 hour, settlements.interval_started_at)) as settled_hours
    from {{ ref("calc_weeks") }} as weeks
    inner join {{ ref("fct_contract_settlements") }} as settlements
        on
            weeks.started_at <= settlements.interval_started_at
            and weeks.ended_at > settlements.interval_started_at
            and settlements.line in ('commitment_used', 'commitment_unused')
    group by weeks.week, settlements.contract_id, settlements.site_id

),

-- What moves into a cloud is told of its commitment that most is unused of: no saving stands twice.
unused as (

    select *
    from settled
    where unused_gpu_hours > {{ unused_ratio }} * committed_gpu_hours
    qualify row_number() over (partition by week, site_id order by unused_gpu_hours desc, contract_id asc) = 1

),

moves as (

    select
        week,
        site_id,
        string_agg(
            {{ in_words("gpu_hours") }} || ' GPU-hours of ' || workload_id || ' from ' || from_site_ids, ', '
            order by weekly_worth desc, workload_id asc
        ) as moved,
        {{ exact_sum("weekly_value") }} as weekly_value,
        {{ sum_if_all_known("weekly_saved_location_based_kg") }} as weekly_saved_location_based_kg
    from {{ ref("calc_agenda_moves") }}
    where change = 'venue'
    group by week, site_id

)

select
    unused.week,
    unused.contract_id,
    unused.site_id,
    unused.unused_gpu_hours,
    unused.committed_gpu_hours,
    unused.settled_hours / unused.week_hours as coverage_ratio,
    moves.moved,
    coalesce(moves.weekly_value, 0) as weekly_value,
    case when moves.moved is null then 0 else moves.weekly_saved_location_based_kg end
        as weekly_saved_location_based_kg
from unused
left join moves
    on
        unused.week = moves.week
        and unused.site_id = moves.site_id
