-- Returns months whose energy debt is less than what secured power lacks of committed power, or more than all of the
-- latter. Where terms change in the month debt may be more than the difference of the means, never less. The tolerance
-- is that of three figures with nine decimals.
select
    site_id,
    local_month,
    committed_mw,
    secured_mw,
    energy_debt_mw
from {{ ref("fct_sourcing_coverage") }}
where
    energy_debt_mw < committed_mw - secured_mw - 3e-9
    or energy_debt_mw > committed_mw
    or energy_debt_mw < 0
