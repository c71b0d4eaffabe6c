-- Returns the site intervals whose layers do not add up: local generation, local battery, contracted and other grid
-- energy to consumption; generation and grid to what was charged. No layer is negative: least() of what there is.
-- Tolerance 1e-5 kWh: five terms, each rounded to 1e-6 kWh.
select
    site_id,
    interval_started_at
from {{ ref("fct_energy_balance") }}
where
    {{ in_build_dates("utc_date") }}
    and (
        abs(local_generation_kwh + local_battery_kwh + contracted_kwh + grid_uncontracted_kwh - consumption_kwh) > 1e-5
        or abs(gen_to_charge_kwh + grid_to_charge_kwh - battery_charge_kwh) > 1e-5
        or least(local_generation_kwh, local_battery_kwh, gen_to_charge_kwh, grid_to_charge_kwh) < -1e-5
    )
