-- Returns the local months of a site whose imported energy gives off less hourly matched than market-based: the same
-- contracts and certificates cover no more when they have to be of the same hour. Holds where clean energy gives off
-- nothing, one residual mix is in force, and no hour lies in two months.
-- Tolerance 1e-6: volumes are rounded to 1e-6 kWh.
with

volumes as (

    select *
    from {{ ref("int_clean_volumes") }}
    where
        {{ known_volumes() }}
        and {{ in_build_dates("utc_date", days_before=35) }}

),

intervals as (

    select
        carbon.*,
        volumes.grid_import_kwh,
        max(carbon.local_month) over (
            partition by carbon.site_id, date_trunc('hour', carbon.interval_started_at)
        ) as last_local_month
    from {{ ref("int_grid_carbon") }} as carbon
    inner join volumes
        on
            carbon.site_id = volumes.site_id
            and carbon.utc_date = volumes.utc_date
            and carbon.interval_started_at = volumes.interval_started_at
    where
        {{ in_build_months("carbon.local_month") }}
        and {{ in_build_dates("carbon.utc_date", days_before=35) }}

)

select
    intervals.site_id,
    intervals.local_month
from intervals
inner join {{ ref("int_certificate_months") }} as months
    on
        intervals.site_id = months.site_id
        and intervals.local_month = months.local_month
where months.clean_g + months.certificate_g = 0
group by intervals.site_id, intervals.local_month
having
    min(intervals.residual_mix_g_per_kwh) = max(intervals.residual_mix_g_per_kwh)
    and count(intervals.residual_mix_g_per_kwh) = count(*)
    and bool_and(intervals.local_month = intervals.last_local_month)
    and sum(intervals.grid_import_kwh * intervals.hourly_matched_g_per_kwh)
    < sum(intervals.grid_import_kwh * intervals.market_g_per_kwh) * (1 - 1e-6)
