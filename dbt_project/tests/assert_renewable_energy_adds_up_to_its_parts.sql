-- Returns sites and years of which ERES-TOT is not ERES-GOO + ERES-PPA + ERES-OS. Tolerance: one rounding of a double.
select
    site_id,
    local_year
from {{ ref("fct_data_centre_reports") }}
group by site_id, local_year
having
    abs(
        max(reported_quantity) filter (where field_id = 'eres_tot')
        - max(reported_quantity) filter (where field_id = 'eres_goo')
        - max(reported_quantity) filter (where field_id = 'eres_ppa')
        - max(reported_quantity) filter (where field_id = 'eres_os')
    ) > 1e-6
