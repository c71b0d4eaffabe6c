with

revisions as (

    {{ latest_revision(
        source("raw", "certificates"),
        ["issuing_body", "issuance_id", "first_certificate", "last_certificate"]
    ) }}

),

-- A bundle that is sent again, because its status changed, is still as old as it was.
first_versions as (

    select
        issuing_body,
        issuance_id,
        first_certificate,
        last_certificate,
        min({{ revised_at() }}) as first_known_at
    from {{ source("raw", "certificates") }}
    where {{ known_at_as_of() }}
    group by issuing_body, issuance_id, first_certificate, last_certificate

)

select
    concat_ws(
        '/',
        revisions.issuing_body,
        revisions.issuance_id,
        revisions.first_certificate || '-' || revisions.last_certificate
    ) as certificate_id,
    revisions.issuing_body,
    revisions.issuance_id,
    revisions.device_id,
    revisions.first_certificate,
    revisions.last_certificate,
    revisions.energy_source,
    revisions.market_zone,
    revisions.production_started_at,
    revisions.production_ended_at,
    revisions.expires_at,
    revisions.status,
    {{ round_kwh(to_kwh("cast(revisions.quantity_wh as double)", "'Wh'")) }} as energy_kwh,
    revisions.is_storage,
    first_versions.first_known_at,
    revisions.known_at,
    revisions.source_file
from revisions
inner join first_versions
    on
        revisions.issuing_body = first_versions.issuing_body
        and revisions.issuance_id = first_versions.issuance_id
        and revisions.first_certificate = first_versions.first_certificate
        and revisions.last_certificate = first_versions.last_certificate
