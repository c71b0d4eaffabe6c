-- Returns rows (test failure) for hours, months and years of a site that certificates cover beyond what it took from
-- the grid and no clean contract volume of the same time covers. Each part is rounded to 1e-6 kWh, and so are the
-- sums it comes from.
with

parts as (

    select
        *,
        cast(date_trunc('year', local_month) as date) as local_year
    from {{ ref("fct_certificate_assignments") }}
    where assignment_status = 'assigned'

),

periods as (

    select
        'hour' as period,
        hours.site_id,
        cast(hours.hour_started_at as timestamp) as started_at,
        greatest(0, hours.import_kwh - hours.clean_kwh) as need_kwh,
        sum(parts.bundle_kwh) as assigned_kwh,
        count(*) as part_count
    from parts
    left join {{ ref("int_certificate_hours") }} as hours
        on
            parts.site_id = hours.site_id
            and parts.hour_started_at = hours.hour_started_at
    where parts.covers = 'hour'
    group by all
    union all
    select
        'month' as period,
        months.site_id,
        cast(months.local_month as timestamp) as started_at,
        months.import_kwh as need_kwh,
        sum(parts.bundle_kwh) as assigned_kwh,
        count(*) as part_count
    from parts
    left join {{ ref("int_certificate_months") }} as months
        on
            parts.site_id = months.site_id
            and parts.local_month = months.local_month
    group by all

),

years as (

    select
        period,
        site_id,
        started_at,
        need_kwh,
        assigned_kwh,
        part_count
    from periods
    union all
    select
        'year' as period,
        site_id,
        date_trunc('year', started_at) as started_at,
        sum(need_kwh) as need_kwh,
        sum(assigned_kwh) as assigned_kwh,
        sum(part_count) as part_count
    from periods
    where period = 'month'
    group by all

)

select *
from years
where
    assigned_kwh > need_kwh + 1e-5 + 1e-6 * part_count
    or need_kwh is null
