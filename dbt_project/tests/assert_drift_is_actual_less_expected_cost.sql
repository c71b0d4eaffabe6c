-- Returns the segments whose drift is not actual less expected cost, or is given without the decision it is measured
-- by. Tolerance 1e-9: the rounding of floats.
select
    workload_id,
    site_id,
    week
from {{ ref("fct_workload_segments") }}
where
    abs(market_valued_energy_cost_per_gpu_hour - expected_energy_cost_per_gpu_hour - drift_cost_per_gpu_hour) > 1e-9
    or (drift_cost_per_gpu_hour is not null and placement_decision_id is null)
