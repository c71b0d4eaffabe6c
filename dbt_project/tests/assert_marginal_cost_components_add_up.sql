-- Returns the rows whose cost components do not add up to the marginal cost.
-- Tolerance 1e-9: the rounding of floats.
select
    site_id,
    interval_started_at
from {{ ref("fct_marginal_cost") }}
where
    {{ in_build_dates("utc_date") }}
    and abs(
        marginal_energy_cost_per_gpu_hour
        + network_and_levies_cost_per_gpu_hour
        + demand_charge_cost_per_gpu_hour
        + variable_cost_per_gpu_hour
        + allocation_charge_per_gpu_hour
        + cloud_charge_per_gpu_hour
        - marginal_cost_per_gpu_hour
    ) > 1e-9
