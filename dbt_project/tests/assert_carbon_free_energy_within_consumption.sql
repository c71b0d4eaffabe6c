-- Returns rows (test failure) for intervals with more carbon-free energy than consumption, or less than none.
-- Energies are rounded to 1e-6 kWh before they are added.
select
    site_id,
    interval_started_at,
    consumption_kwh,
    carbon_free_kwh
from {{ ref("fct_carbon") }}
where
    {{ in_build_dates("utc_date") }}
    and (
        carbon_free_kwh > consumption_kwh + 1e-5
        or carbon_free_kwh < -1e-5
    )
