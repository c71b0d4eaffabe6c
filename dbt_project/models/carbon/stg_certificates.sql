with

revisions as (

    {{ latest_revision(
        source("raw", "certificates"),
        ["issuing_body", "issuance_id", "first_certificate", "last_certificate"]
    ) }}

),

first_versions as (

    select
        issuing_body,
        issuance_id,
        first_certificate,
        last_certificate,
        min(struct_pack(first_known_at := {{ revised_at() }}, first_load_number := load_number)) as first_load
    from {{ source("raw", "certificates") }}
    where {{ known_at_as_of() }}
    group by issuing_body, issuance_id, first_certificate, last_certificate

),

-- A bundle that is sent again, because its status changed, is still as old as it was, and what a bundle was split into
-- is as old as that.
ages as (

    select
        bundles.issuing_body,
        bundles.issuance_id,
        bundles.first_certificate,
        bundles.last_certificate,
        min(wholes.first_load) as first_load
    from first_versions as bundles
    inner join first_versions as wholes
        on
            bundles.issuing_body = wholes.issuing_body
            and bundles.issuance_id = wholes.issuance_id
            and bundles.first_certificate between wholes.first_certificate and wholes.last_certificate
            and bundles.last_certificate between wholes.first_certificate and wholes.last_certificate
    group by bundles.issuing_body, bundles.issuance_id, bundles.first_certificate, bundles.last_certificate

),

-- Certificates are never put together, so of a bundle that lies within another the other was split, whether or not the
-- registry says so, and whatever it still said of it.
splits as (

    select distinct
        wholes.issuing_body,
        wholes.issuance_id,
        wholes.first_certificate,
        wholes.last_certificate
    from first_versions as wholes
    inner join first_versions as parts
        on
            wholes.issuing_body = parts.issuing_body
            and wholes.issuance_id = parts.issuance_id
            and parts.first_certificate between wholes.first_certificate and wholes.last_certificate
            and parts.last_certificate between wholes.first_certificate and wholes.last_certificate
    where
        parts.first_certificate > wholes.first_certificate
        or parts.last_certificate < wholes.last_certificate

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
    case when splits.issuance_id is null then revisions.status else 'bundle_split' end as status,
    {{ round_kwh(to_kwh("cast(revisions.quantity_wh as double)", "'Wh'")) }} as energy_kwh,
    revisions.is_storage,
    ages.first_load.first_known_at,
    ages.first_load.first_load_number,
    revisions.known_at,
    revisions.source_file
from revisions
inner join ages
    on
        revisions.issuing_body = ages.issuing_body
        and revisions.issuance_id = ages.issuance_id
        and revisions.first_certificate = ages.first_certificate
        and revisions.last_certificate = ages.last_certificate
left join splits
    on
        revisions.issuing_body = splits.issuing_body
        and revisions.issuance_id = splits.issuance_id
        and revisions.first_certificate = splits.first_certificate
        and revisions.last_certificate = splits.last_certificate
