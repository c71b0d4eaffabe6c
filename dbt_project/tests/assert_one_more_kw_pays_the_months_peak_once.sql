-- Returns the months of a grid connection in which one more kW would pay the month's peak more than once.
-- Tolerance 1e-9: the rounding of floats.
select
    contract_id,
    local_month
from {{ ref("int_demand_peaks") }}
where {{ in_build_months() }}
group by contract_id, local_month
having sum(peak_charge_ratio / (demand_period_hours * 4)) > 1 + 1e-9
