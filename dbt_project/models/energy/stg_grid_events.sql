with

-- A version of a whole event replaces all rows of the one before, and the notice that it was deleted, which repeats the
-- last version and its time, replaces that.
versions as (

    select
        *,
        case
            when whole_event_id is null then 1
            else rank() over (
                partition by whole_event_id
                order by {{ revised_at() }} desc, is_cancelled desc, load_number desc
            )
        end as version_rank
    from {{ source("raw", "grid_events") }}
    where {{ known_at_as_of() }}

),

revisions as (

    {{ latest_revision("versions", ["event_id", "target"], "version_rank = 1") }}

),

-- The newest listing of each program, and the events in it: what it no longer has was deleted.
listings as (

    {{ latest_revision(source("raw", "grid_event_listings"), ["program_id"]) }}

),

listed as (

    select distinct
        listings.program_id,
        events.whole_event_id
    from listings
    inner join {{ source("raw", "grid_events") }} as events on listings.load_id = events.load_id

),

targets as (

    select distinct
        site_id,
        grid_event_target
    from {{ source("raw", "sites") }}

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
left join listings on revisions.program_id = listings.program_id
left join listed
    on
        revisions.program_id = listed.program_id
        and revisions.whole_event_id = listed.whole_event_id
where
    not revisions.is_cancelled
    and (
        listings.program_id is null
        or listed.whole_event_id is not null
        or {{ revised_at("listings") }} < {{ revised_at("revisions") }}
        or (
            {{ revised_at("listings") }} = {{ revised_at("revisions") }}
            and listings.load_number < revisions.load_number
        )
    )
