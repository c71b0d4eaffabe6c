with

-- A zone of a certificate may be named as market or as generation mix; sites of both names are in one zone.
zones as (

    select
        market_zone,
        min(carbon_zone) as carbon_zone,
        min(time_zone) as time_zone
    from (
        select
            unnest([bidding_zone, carbon_zone]) as market_zone,
            carbon_zone,
            time_zone
        from {{ source("raw", "sites") }}
        where carbon_zone is not null
    )
    where market_zone is not null
    group by market_zone

),

production_factors as (

    select *
    from {{ source("raw", "emission_factors") }}
    where
        kind = 'production_type'
        and not is_marginal

),

-- A plant whose certificates come with a contract counts by the contract's volume.
bundled_plants as (

    select *
    from {{ source("raw", "contracts") }}
    where
        are_certificates_bundled
        and plant_meter_id is not null

),

placed as (

    select
        certificates.*,
        zones.carbon_zone,
        case
            when epoch(certificates.production_ended_at - certificates.production_started_at) <= 3600 then 'hour'
            -- A month in which the clocks change back has an hour more.
            when epoch(certificates.production_ended_at - certificates.production_started_at) <= (31 * 24 + 1) * 3600
                then 'month'
            when epoch(certificates.production_ended_at - certificates.production_started_at) <= 366 * 24 * 3600
                then 'year'
        end as granularity,
        -- No sum of instant and interval: readers of the lineage lose the brackets such a sum needs further down.
        to_timestamp(
            (epoch(certificates.production_started_at) + epoch(certificates.production_ended_at)) / 2
        ) as middle_at,
        coalesce(zones.time_zone, 'UTC') as time_zone
    from {{ ref("stg_certificates") }} as certificates
    left join zones on certificates.market_zone = zones.market_zone

),

-- What was produced in an hour, month or year covers what was consumed in the same one, that of its middle.
dated as (

    select
        *,
        case when granularity = 'hour' then date_trunc('hour', middle_at) end as hour_started_at,
        case
            when granularity in ('hour', 'month')
                then cast(date_trunc('month', middle_at at time zone time_zone) as date)
        end as local_month,
        case
            when granularity is not null then cast(date_trunc('year', middle_at at time zone time_zone) as date)
        end as local_year
    from placed

),

covering as (

    select
        *,
        case granularity
            when 'hour' then hour_started_at + interval 1 hour
            when 'month' then cast(local_month + interval 1 month as timestamp) at time zone time_zone
            when 'year' then cast(local_year + interval 1 year as timestamp) at time zone time_zone
        end as covers_until_at
    from dated

),

-- The same certificates under another issuance or in another range: only the bundle known first counts.
used_twice as (

    select distinct later.certificate_id
    from dated as later
    inner join dated as earlier
        on
            later.issuing_body = earlier.issuing_body
            and later.production_started_at = earlier.production_started_at
            and later.first_certificate <= earlier.last_certificate
            and later.last_certificate >= earlier.first_certificate
            and (later.device_id = earlier.device_id or later.issuance_id = earlier.issuance_id)
            and (later.first_known_at, later.first_load_number, later.certificate_id)
            > (earlier.first_known_at, earlier.first_load_number, earlier.certificate_id)
    where earlier.status in ('active', 'cancelled', 'claimed')

),

bundled as (

    select distinct dated.certificate_id
    from dated
    inner join bundled_plants
        on
            dated.device_id = bundled_plants.plant_meter_id
            and {{ is_valid_at("bundled_plants", "dated.middle_at") }}

)

select
    covering.certificate_id,
    covering.issuing_body,
    covering.issuance_id,
    covering.device_id,
    covering.energy_source,
    covering.market_zone,
    covering.carbon_zone,
    covering.production_started_at,
    covering.production_ended_at,
    covering.expires_at,
    covering.status,
    covering.granularity,
    covering.hour_started_at,
    covering.local_month,
    covering.local_year,
    covering.energy_kwh,
    used.value_g_per_kwh,
    case
        when covering.status not in ('active', 'cancelled', 'claimed') then 'status'
        when used_twice.certificate_id is not null then 'used_twice'
        when bundled.certificate_id is not null then 'counted_by_contract'
        when covering.carbon_zone is null then 'wrong_zone'
        when covering.granularity is null then 'longer_than_a_year'
        when covering.expires_at < covering.covers_until_at then 'expired'
        when coalesce(direct.value_g_per_kwh, 1) > 0 or used.value_g_per_kwh is null then 'not_carbon_free'
    end as refusal,
    covering.known_at,
    covering.source_file
from covering
cross join {{ source("raw", "organization") }} as organization
left join used_twice on covering.certificate_id = used_twice.certificate_id
left join bundled on covering.certificate_id = bundled.certificate_id
left join production_factors as direct
    on
        covering.energy_source = direct.energy_source
        and direct.basis = 'direct'
        and {{ is_valid_at("direct", "covering.middle_at") }}
left join production_factors as used
    on
        covering.energy_source = used.energy_source
        and organization.emission_factor_basis = used.basis
        and {{ is_valid_at("used", "covering.middle_at") }}
