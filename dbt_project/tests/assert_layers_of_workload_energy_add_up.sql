-- Returns rows (test failure) for workload days whose layers are not their energy, though every interval had both.
-- Each layer of each of the day's intervals is rounded to 1e-6 kWh.
select
    site_id,
    workload_id,
    local_date,
    energy_kwh,
    local_kwh + contracted_kwh + grid_uncontracted_kwh as layers_kwh
from {{ ref("fct_workload_energy") }}
where
    coverage_ratio = 1
    and local_kwh is not null
    and contracted_kwh is not null
    and abs(energy_kwh - local_kwh - contracted_kwh - grid_uncontracted_kwh) > 1e-3
