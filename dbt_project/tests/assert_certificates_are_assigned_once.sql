-- Returns rows (test failure) for bundles whose parts do not add up to the bundle: a watt-hour then counts twice or
-- is lost. Each part is rounded to 1e-6 kWh, and a rest of up to 1e-5 kWh stands for their rounding.
with

parts as (

    select
        certificate_id,
        sum(bundle_kwh) as parts_kwh,
        count(*) as part_count
    from {{ ref("fct_certificate_assignments") }}
    group by certificate_id

)

select
    certificates.certificate_id,
    certificates.energy_kwh,
    parts.parts_kwh
from {{ ref("stg_certificates") }} as certificates
left join parts on certificates.certificate_id = parts.certificate_id
where
    parts.parts_kwh is null
    or abs(parts.parts_kwh - certificates.energy_kwh) > 1e-5 + 1e-6 * parts.part_count
