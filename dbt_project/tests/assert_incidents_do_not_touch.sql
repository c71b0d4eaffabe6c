-- Returns rows (test failure) for incidents that begin within 15 minutes of the end of another of the same site.
select
    site_id,
    started_at,
    previous_ended_at
from (
    select
        site_id,
        started_at,
        lag(ended_at) over (partition by site_id order by started_at) as previous_ended_at
    from {{ ref("fct_energy_constraint_incidents") }}
)
where started_at - previous_ended_at <= interval 15 minutes
