-- Returns the battery intervals whose stock lies below 0 or above capacity.
-- Tolerance 0.5 %: capacity fades between two samples, and the stock that closes an interval is the next one's first.
select
    battery_id,
    interval_started_at,
    opening_stored_kwh,
    closing_stored_kwh,
    capacity_kwh
from {{ ref("fct_battery_ledger") }}
where
    opening_stored_kwh < 0
    or closing_stored_kwh < 0
    or opening_stored_kwh > capacity_kwh * 1.005
    or closing_stored_kwh > capacity_kwh * 1.005
