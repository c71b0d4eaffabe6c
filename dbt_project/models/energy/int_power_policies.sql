with

time_zones as (

    select distinct
        site_id,
        time_zone
    from {{ source("raw", "sites") }}

)

select
    decisions.site_id,
    decisions.decision_id,
    decisions.power_limit_ratio,
    cast(decisions.effective_from as timestamp) at time zone time_zones.time_zone as valid_from_at,
    lead(cast(decisions.effective_from as timestamp) at time zone time_zones.time_zone) over (
        partition by decisions.site_id
        order by decisions.effective_from, decisions.decided_on, decisions.decision_id
    ) as valid_to_at
from {{ source("raw", "decisions") }} as decisions
inner join time_zones on decisions.site_id = time_zones.site_id
where decisions.power_limit_ratio is not null
