-- Returns the site intervals whose facility drew less than its IT.
-- Tolerance 2 %: two meters of class 1 may each be off by 1 % in opposite directions.
select
    site_id,
    interval_started_at,
    pue_ratio
from {{ ref("fct_energy_balance") }}
where pue_ratio < 0.98
