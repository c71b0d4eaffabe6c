{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

revisions as (

    {{ latest_revision(
        source("raw", "battery_samples"), ["battery_id", "sampled_at"], in_build_dates("sampled_at")
    ) }}

)

select
    revisions.battery_id,
    revisions.sampled_at,
    cast(revisions.sampled_at as date) as utc_date,
    revisions.state_of_charge_ratio,
    coalesce(revisions.energy_capacity_kwh, batteries.energy_mwh * 1000) as capacity_kwh,
    {{ round_kwh(
        "revisions.state_of_charge_ratio * coalesce(revisions.energy_capacity_kwh, batteries.energy_mwh * 1000)"
    ) }} as stored_kwh,
    case batteries.power_sign
        when 'discharge_positive' then revisions.power_kw
        when 'charge_positive' then -revisions.power_kw
    end as discharging_kw,
    revisions.available_charge_kw,
    revisions.available_discharge_kw,
    revisions.state,
    revisions.known_at,
    revisions.source_file
from revisions
inner join {{ source("raw", "batteries") }} as batteries
    on
        revisions.battery_id = batteries.battery_id
        and {{ is_valid_at("batteries", "revisions.sampled_at") }}
