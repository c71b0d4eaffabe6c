with

losses as (

    select
        incident_id,
        interval_started_at,
        {%- for criticality in ["sensitive", "tolerant"] %}
        {{ sum_if_all_known("lost_gpu_hours", condition="criticality = '" ~ criticality ~ "'", empty=0) }}
            as lost_gpu_hours_{{ criticality }},
        {%- endfor %}
        {{ exact_sum("interrupted_gpu_hours") }} as interrupted_gpu_hours,
        {{ exact_sum("interrupted_gpu_count") }} as interrupted_gpu_count
    from {{ ref("calc_incident_losses") }}
    group by incident_id, interval_started_at

)

select
    incidents.incident_id,
    intervals.site_id,
    intervals.interval_started_at,
    intervals.local_date,
    intervals.week,
    -- The cost of an incident is spread evenly over its time.
    incidents.incident_cost * 15 / incidents.duration_minutes as incident_cost,
    {%- for criticality in ["sensitive", "tolerant"] %}
    case when losses.incident_id is null then 0 else losses.lost_gpu_hours_{{ criticality }} end
        as lost_gpu_hours_{{ criticality }},
    {%- endfor %}
    coalesce(losses.interrupted_gpu_hours, 0) as interrupted_gpu_hours,
    coalesce(losses.interrupted_gpu_count, 0) as interrupted_gpu_count
from {{ ref("fct_energy_constraint_incidents") }} as incidents
inner join {{ ref("int_site_intervals") }} as intervals
    on
        incidents.site_id = intervals.site_id
        and incidents.started_at <= intervals.interval_started_at
        and incidents.ended_at > intervals.interval_started_at
left join losses
    on
        incidents.incident_id = losses.incident_id
        and intervals.interval_started_at = losses.interval_started_at
