{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

contracted as (

    select
        site_id,
        interval_started_at,
        {{ sum_if_all_known("volume_mwh") }} * 1000 as contract_volume_kwh
    from {{ ref("int_contract_volumes") }}
    where {{ in_build_dates("utc_date") }}
    group by site_id, interval_started_at

),

flows as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        intervals.local_date,
        intervals.local_month,
        intervals.week,
        meters.grid_import_kwh,
        meters.grid_export_kwh,
        meters.onsite_generation_kwh,
        meters.battery_charge_kwh,
        meters.battery_discharge_kwh,
        meters.it_load_kwh as it_kwh,
        meters.cooling_load_kwh as cooling_kwh,
        meters.facility_total_kwh as facility_kwh,
        {{ round_kwh("meters.facility_total_kwh - meters.it_load_kwh - meters.cooling_load_kwh") }} as other_kwh,
        meters.consumption_kwh,
        meters.coverage_ratio,
        meters.estimated_ratio,
        -- No contract: nothing contracted. A contract whose plant was not read: not known.
        case when contracted.site_id is null then 0 else contracted.contract_volume_kwh end as contract_volume_kwh
    from {{ ref("int_site_intervals") }} as intervals
    inner join {{ ref("int_meter_roles_pivoted") }} as meters
        on
            intervals.site_id = meters.site_id
            and intervals.interval_started_at = meters.interval_started_at
    left join contracted
        on
            intervals.site_id = contracted.site_id
            and intervals.interval_started_at = contracted.interval_started_at
    where
        {{ in_build_dates("intervals.utc_date") }}
        and {{ in_build_dates("meters.utc_date") }}

),

-- The order in which the site is served: its own generation, the battery, the grid. least() passes over nulls,
-- so nothing is handed down in an interval of which a flow is not known.
generation_served as (

    select
        *,
        case
            when consumption_kwh is not null then least(onsite_generation_kwh, greatest(consumption_kwh, 0))
        end as local_generation_kwh
    from flows

),

battery_served as (

    select
        *,
        case
            when consumption_kwh is not null
                then least(
                    battery_discharge_kwh, {{ round_kwh("greatest(consumption_kwh, 0) - local_generation_kwh") }}
                )
        end as local_battery_kwh,
        case
            when consumption_kwh is not null
                then least({{ round_kwh("onsite_generation_kwh - local_generation_kwh") }}, battery_charge_kwh)
        end as gen_to_charge_kwh
    from generation_served

),

grid_served as (

    select
        *,
        {{ round_kwh("consumption_kwh - local_generation_kwh - local_battery_kwh") }} as grid_supplied_kwh,
        {{ round_kwh("battery_charge_kwh - gen_to_charge_kwh") }} as grid_to_charge_kwh
    from battery_served

),

matched as (

    select
        *,
        case
            when grid_supplied_kwh is not null and contract_volume_kwh is not null
                then {{ round_kwh("least(greatest(grid_supplied_kwh, 0), contract_volume_kwh)") }}
        end as contracted_kwh
    from grid_served

)

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    local_date,
    local_month,
    week,
    grid_import_kwh,
    grid_export_kwh,
    onsite_generation_kwh,
    battery_charge_kwh,
    battery_discharge_kwh,
    facility_kwh,
    it_kwh,
    cooling_kwh,
    other_kwh,
    {{ round_kwh("consumption_kwh - facility_kwh") }} as unaccounted_kwh,
    consumption_kwh,
    local_generation_kwh,
    local_battery_kwh,
    {{ round_kwh("local_generation_kwh + local_battery_kwh") }} as local_kwh,
    grid_supplied_kwh,
    contracted_kwh,
    {{ round_kwh("grid_supplied_kwh - contracted_kwh") }} as grid_uncontracted_kwh,
    gen_to_charge_kwh,
    grid_to_charge_kwh,
    facility_kwh / nullif(it_kwh, 0) as pue_ratio,
    coverage_ratio,
    estimated_ratio,
    estimated_ratio > 0 as is_estimated
from matched
