with

revisions as (

    {{ latest_revision(source("raw", "grid_events"), ["event_id", "target"]) }}

),

targets as (

    select distinct
        site_id,
        grid_event_target
    from {{ source("raw", "sites") }}
    where grid_event_target is not null

)

select
    revisions.event_id,
    targets.site_id,
    revisions.event_type,
    revisions.started_at,
    revisions.ended_at,
    revisions.ended_at is null as is_open,
    {{ kw_to_mw("revisions.import_limit_kw") }} as import_limit_mw,
    revisions.known_at,
    revisions.source_file
from revisions
inner join targets on revisions.target = targets.grid_event_target
where not revisions.is_cancelled
