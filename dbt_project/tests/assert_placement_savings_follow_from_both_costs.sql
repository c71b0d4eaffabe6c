-- Returns the options that save another amount than the difference of the two costs, move more than runs elsewhere
-- or is free, move without being allowed, or put off what did not run. Tolerance 1e-9: the rounding of floats.
select
    workload_id,
    site_id,
    week
from {{ ref("fct_placement_options") }}
where
    abs(current_marginal_cost_per_gpu_hour - venue_marginal_cost_per_gpu_hour - move_saving_per_gpu_hour) > 1e-9
    or (delay_saving_value is not null and not is_current)
    or (best_delay_hours is not null) <> (coalesce(delayed_gpu_hours, 0) > 0)
    or movable_gpu_hours > least(elsewhere_gpu_hours, spare_gpu_hours) + 1e-9
    or (movable_gpu_hours > 0 and is_allowed is distinct from true)
    or (is_allowed is not distinct from true) <> (refusal_reasons is null)
