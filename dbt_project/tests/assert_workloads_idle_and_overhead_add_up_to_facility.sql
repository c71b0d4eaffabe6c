-- Returns rows (test failure) for intervals in which workloads, idle and overhead are not the facility meter, or
-- without one what the site takes in.
-- Each share is rounded to 1e-6 kWh; a site has tens of workloads, not hundreds.
select
    work.site_id,
    work.interval_started_at,
    sum(work.energy_kwh) as energy_kwh,
    any_value(meters.facility_total_kwh) as facility_total_kwh,
    any_value(meters.consumption_kwh) as consumption_kwh
from {{ ref("int_workload_intervals") }} as work
inner join {{ ref("int_meter_roles_pivoted") }} as meters
    on
        work.site_id = meters.site_id
        and work.utc_date = meters.utc_date
        and work.interval_started_at = meters.interval_started_at
where {{ in_build_dates("work.utc_date") }}
group by work.site_id, work.interval_started_at
having
    count(work.energy_kwh) = count(*)
    and abs(
        sum(work.energy_kwh)
        - any_value(case when meters.has_facility_meter then meters.facility_total_kwh else meters.consumption_kwh end)
    ) > 1e-4
