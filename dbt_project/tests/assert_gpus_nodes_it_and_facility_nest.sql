-- Returns rows (test failure) for days in which an inner meter counted more than the one around it.
-- Meters of one accuracy class may differ by 0.5 % each way, which is the tolerance.
select
    site_id,
    local_date,
    gpu_to_node_gap_kwh,
    node_to_it_gap_kwh,
    it_to_facility_gap_kwh
from {{ ref("fct_reconciliation") }}
where
    gpu_to_node_gap_kwh < 0
    or node_to_it_gap_kwh < -0.005 * it_kwh
    or it_to_facility_gap_kwh < -0.005 * facility_kwh
