-- Returns the site intervals of which energy in differs from energy out:
-- import + generation + discharge = IT + cooling + other + charge + export + unaccounted.
-- Tolerance 1e-5 kWh: eleven terms, each rounded to 1e-6 kWh.
select
    site_id,
    interval_started_at
from {{ ref("fct_energy_balance") }}
where
    {{ in_build_dates("utc_date") }}
    and abs(
        grid_import_kwh + onsite_generation_kwh + battery_discharge_kwh
        - it_kwh - cooling_kwh - other_kwh - battery_charge_kwh - grid_export_kwh - unaccounted_kwh
    ) > 1e-5
