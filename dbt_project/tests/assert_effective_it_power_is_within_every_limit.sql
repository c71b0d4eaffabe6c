-- Returns the site intervals whose effective IT power exceeds a limit of the site, or what its supply gives at the PUE.
-- Tolerance 1e-6 MW: effective power is rounded to 1e-9 MW, and multiplied by the PUE again here.
select
    site_id,
    interval_started_at
from {{ ref("fct_supply_capacity") }}
where
    {{ in_build_dates("utc_date") }}
    and (
        effective_it_mw < 0
        or effective_it_mw > it_capacity_mw + 1e-6
        or effective_it_mw > cooling_limit_mw + 1e-6
        or effective_it_mw * applied_pue_ratio > electrical_limit_mw + 1e-6
        or effective_it_mw * applied_pue_ratio > grid_mw + local_mw + 1e-6
    )
