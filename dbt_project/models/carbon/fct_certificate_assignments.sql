with

claims as (

    select *
    from {{ ref("int_certificate_claims") }}
    where refusal is null

),

by_hour as (

    select
        claims.certificate_id,
        'hour' as covers,
        hours.site_id,
        hours.local_month,
        round(claims.energy_kwh / hours.pool_kwh * hours.certificate_kwh, 6) as energy_kwh
    from claims
    inner join {{ ref("int_certificate_hours") }} as hours
        on
            claims.carbon_zone = hours.carbon_zone
            and claims.hour_started_at = hours.hour_started_at
    where hours.certificate_kwh > 0

),

-- What an hour does not need of its certificates is left for the month.
left_for_month as (

    select
        claims.certificate_id,
        claims.carbon_zone,
        claims.local_month,
        round(claims.energy_kwh - coalesce({{ exact_sum("by_hour.energy_kwh") }}, 0), 6) as left_kwh
    from claims
    left join by_hour on claims.certificate_id = by_hour.certificate_id
    where claims.local_month is not null
    group by claims.certificate_id, claims.carbon_zone, claims.local_month, claims.energy_kwh

),

by_month as (

    select
        left_for_month.certificate_id,
        'month' as covers,
        months.site_id,
        months.local_month,
        round(left_for_month.left_kwh / months.month_pool_kwh * months.monthly_kwh, 6) as energy_kwh
    from left_for_month
    inner join {{ ref("int_certificate_months") }} as months
        on
            left_for_month.carbon_zone = months.carbon_zone
            and left_for_month.local_month = months.local_month
    where months.monthly_kwh > 0

),

by_year as (

    select
        claims.certificate_id,
        'year' as covers,
        months.site_id,
        months.local_month,
        round(claims.energy_kwh / months.year_pool_kwh * months.yearly_kwh, 6) as energy_kwh
    from claims
    inner join {{ ref("int_certificate_months") }} as months
        on
            claims.carbon_zone = months.carbon_zone
            and claims.local_year = months.local_year
    where
        claims.granularity = 'year'
        and months.yearly_kwh > 0

),

assigned as (

    select * from by_hour
    union all
    select * from by_month
    union all
    select * from by_year

),

-- Less than the rounding of the parts is no rest.
unused as (

    select
        claims.certificate_id,
        cast(null as varchar) as covers,
        cast(null as varchar) as site_id,
        cast(null as date) as local_month,
        round(claims.energy_kwh - coalesce({{ exact_sum("assigned.energy_kwh") }}, 0), 6) as energy_kwh
    from claims
    left join assigned on claims.certificate_id = assigned.certificate_id
    group by claims.certificate_id, claims.energy_kwh
    having claims.energy_kwh - coalesce({{ exact_sum("assigned.energy_kwh") }}, 0) > 1e-5

),

refused as (

    select
        certificate_id,
        cast(null as varchar) as covers,
        cast(null as varchar) as site_id,
        cast(null as date) as local_month,
        energy_kwh
    from {{ ref("int_certificate_claims") }}
    where refusal is not null

),

parts as (

    select
        *,
        'assigned' as assignment_status
    from assigned
    where energy_kwh > 0
    union all
    select
        *,
        'unused' as assignment_status
    from unused
    union all
    select
        *,
        'refused' as assignment_status
    from refused

)

select
    parts.certificate_id,
    parts.assignment_status,
    claims.refusal,
    parts.site_id,
    parts.covers,
    parts.local_month,
    claims.hour_started_at,
    parts.energy_kwh as bundle_kwh,
    claims.issuing_body,
    claims.issuance_id,
    claims.device_id,
    claims.energy_source,
    claims.market_zone,
    claims.granularity,
    claims.production_started_at,
    claims.production_ended_at,
    claims.expires_at,
    claims.status as registry_status,
    claims.known_at,
    claims.source_file
from parts
inner join {{ ref("int_certificate_claims") }} as claims on parts.certificate_id = claims.certificate_id
