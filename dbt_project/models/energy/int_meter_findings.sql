{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{# Of these roles what a site takes in is made; all of them stand on the supply's side of the facility meter. #}
{% set supply_roles = (
    "('grid_import', 'grid_export', 'onsite_generation', 'battery_charge', 'battery_discharge')"
) %}
{% set tolerances = var("finding_tolerances") %}

with

plants as (

    select
        plant_meter_id as meter_id,
        max(plant_capacity_mw) as plant_capacity_mw
    from {{ source("raw", "contracts") }}
    where plant_meter_id is not null
    group by plant_meter_id

),

battery_roles as (

    select unnest(['battery_charge', 'battery_discharge']) as role

),

-- A battery without a meter of a role stands here as one that is never read: what the site takes in is then not known.
declared as (

    select
        site_id,
        meter_id,
        flow,
        role,
        battery_id,
        valid_from_at,
        valid_to_at
    from {{ source("raw", "meters") }}

    union all

    select
        batteries.site_id,
        null as meter_id,
        null as flow,
        roles.role,
        batteries.battery_id,
        batteries.valid_from_at,
        batteries.valid_to_at
    from {{ source("raw", "batteries") }} as batteries
    cross join battery_roles as roles
    where
        not exists (
            select 1
            from {{ source("raw", "meters") }} as meters
            where
                meters.battery_id = batteries.battery_id
                and meters.role = roles.role
        )

),

-- Neighbours of the first and the last interval of the days to build lie a day further.
readings as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        meters.meter_id,
        meters.flow,
        meters.role,
        readings.energy_kwh,
        coalesce(readings.is_estimated, false) as is_estimated,
        coalesce(readings.is_profiled, false) as is_profiled,
        readings.source_file,
        -- A flow of which reference data states no power of its own is held against three times the site's greatest.
        250 * case
            when meters.role = 'grid_import' then intervals.grid_firm_mw + intervals.grid_non_firm_mw
            when meters.role in ('battery_charge', 'battery_discharge') then batteries.power_mw
            when meters.role = 'ppa_generation' then plants.plant_capacity_mw
            when
                meters.role in ('grid_export', 'onsite_generation')
                then 3 * greatest(intervals.grid_firm_mw + intervals.grid_non_firm_mw, intervals.electrical_limit_mw)
            else greatest(intervals.grid_firm_mw + intervals.grid_non_firm_mw, intervals.electrical_limit_mw)
        end as rated_kwh
    from {{ ref("int_site_intervals") }} as intervals
    inner join declared as meters
        on
            intervals.site_id = meters.site_id
            and {{ is_valid_at("meters", "intervals.interval_started_at") }}
    left join {{ ref("stg_meter_readings") }} as readings
        on
            meters.meter_id = readings.meter_id
            and meters.flow = readings.flow
            and intervals.interval_started_at = readings.interval_started_at
            and {{ in_build_dates("readings.utc_date", days_before=1) }}
    left join {{ source("raw", "batteries") }} as batteries
        on
            meters.battery_id = batteries.battery_id
            and {{ is_valid_at("batteries", "intervals.interval_started_at") }}
    left join plants on meters.meter_id = plants.meter_id
    where {{ in_build_dates("intervals.utc_date", days_before=1) }}

),

ranged as (

    select
        *,
        coalesce(
            energy_kwh < 0 or energy_kwh > {{ tolerances["range_factor"] }} * rated_kwh, false
        ) as is_out_of_range
    from readings

),

-- How far an interval stands out from its neighbours.
stepped as (

    select
        *,
        lag(energy_kwh) over meter_order as previous_kwh,
        lead(energy_kwh) over meter_order as next_kwh,
        abs(
            energy_kwh - (lag(energy_kwh) over meter_order + lead(energy_kwh) over meter_order) / 2
        ) as departure_kwh
    from ranged
    window meter_order as (partition by meter_id, flow order by interval_started_at)

),

-- A real peak is seen by another meter of the site too.
peaked as (

    select
        *,
        coalesce(
            role in ('grid_import', 'it_load', 'cooling_load', 'facility_total')
            and energy_kwh > {{ tolerances["spike_factor"] }} * greatest(previous_kwh, next_kwh)
            and energy_kwh > 0.1 * rated_kwh
            and departure_kwh * 0.5 > coalesce(
                nth_value(departure_kwh, 2) over (
                    partition by site_id, interval_started_at
                    order by departure_kwh desc nulls last
                    rows between unbounded preceding and unbounded following
                ),
                0
            ),
            false
        ) as is_spike
    from stepped

),

-- Meters are compared interval by interval, and over the hour where one of them was read by the hour.
plausible as (

    select
        *,
        case when not is_out_of_range and not is_spike then energy_kwh end as plausible_kwh,
        case
            when bool_or(is_profiled) over (partition by site_id, date_trunc('hour', interval_started_at))
                then date_trunc('hour', interval_started_at)
            else interval_started_at
        end as compared_from_at
    from peaked
    where {{ in_build_dates("utc_date") }}

),

interval_sides as (

    select
        site_id,
        interval_started_at,
        compared_from_at,
        {{ role_energies("plausible_kwh") }},
        coalesce(bool_or(is_estimated) filter (where role in {{ supply_roles }}), false) as is_supply_estimated,
        coalesce(bool_or(is_estimated) filter (where role = 'facility_total'), false) as is_facility_estimated,
        coalesce(bool_or(is_estimated) filter (where role = 'it_load'), false) as is_it_estimated
    from plausible
    where role <> 'ppa_generation'
    group by site_id, interval_started_at, compared_from_at

),

sides as (

    select
        site_id,
        compared_from_at,
        {{ sum_if_all_known(taken_in()) }} as supply_kwh,
        {{ sum_if_all_known("facility_total_kwh") }} as facility_kwh,
        {{ sum_if_all_known("it_load_kwh") }} as it_kwh,
        {{ sum_if_all_known("cooling_load_kwh") }} as cooling_kwh,
        bool_or(is_supply_estimated) as is_supply_estimated,
        bool_or(is_facility_estimated) as is_facility_estimated,
        bool_or(is_it_estimated) as is_it_estimated
    from interval_sides
    group by site_id, compared_from_at

),

-- Nodes that were watched drew no more than all of IT did, whatever part of them that was.
node_sides as (

    select
        interval_sides.site_id,
        interval_sides.compared_from_at,
        {{ exact_sum("greatest(telemetry.gpu_kwh, telemetry.node_kwh)") }} as node_kwh
    from interval_sides
    inner join {{ ref("int_site_telemetry_intervals") }} as telemetry
        on
            interval_sides.site_id = telemetry.site_id
            and interval_sides.interval_started_at = telemetry.interval_started_at
            and {{ in_build_dates("telemetry.utc_date") }}
    group by interval_sides.site_id, interval_sides.compared_from_at

),

-- Of two meters that contradict each other the one that stands still is wrong, else the one that was estimated, else
-- the one further from the meter the grid operator bills by.
supply_judged as (

    select
        *,
        case
            when
                abs(supply_kwh - facility_kwh)
                <= {{ tolerances["balance_ratio"] }} * greatest(abs(supply_kwh), facility_kwh) then null
            when facility_kwh = 0 then 'facility'
            when supply_kwh <= 0 then 'supply'
            when is_supply_estimated and not is_facility_estimated then 'supply'
            when supply_kwh <> facility_kwh then 'facility'
        end as wrong_of_supply_and_facility
    from sides

),

outer_meters as (

    select
        *,
        case
            when
                facility_kwh is not null and coalesce(wrong_of_supply_and_facility, 'none') <> 'facility'
                then 'facility'
            when
                supply_kwh is not null and coalesce(wrong_of_supply_and_facility, 'none') <> 'supply'
                then 'supply'
        end as outer_side
    from supply_judged

),

nested as (

    select
        outer_meters.*,
        node_sides.node_kwh,
        case outer_meters.outer_side
            when 'facility' then outer_meters.facility_kwh
            when 'supply' then outer_meters.supply_kwh
        end as outer_kwh,
        case outer_meters.outer_side
            when 'facility' then outer_meters.is_facility_estimated
            when 'supply' then outer_meters.is_supply_estimated
        end as is_outer_estimated
    from outer_meters
    left join node_sides
        on
            outer_meters.site_id = node_sides.site_id
            and outer_meters.compared_from_at = node_sides.compared_from_at

),

judged as (

    select
        *,
        coalesce(it_kwh < node_kwh * (1 - {{ tolerances["telemetry_ratio"] }}), false) as is_it_below_nodes,
        case
            when it_kwh > outer_kwh * (1 + {{ tolerances["nesting_ratio"] }})
                then
                    case
                        when outer_kwh <= 0 then outer_side
                        when is_outer_estimated and not is_it_estimated then outer_side
                        else 'it'
                    end
            when it_kwh + cooling_kwh > outer_kwh * (1 + {{ tolerances["nesting_ratio"] }}) then 'cooling'
        end as wrong_of_nested
    from nested

),

-- One reading counts under the first rule it breaks.
broken as (

    select
        readings.*,
        case
            when readings.is_out_of_range then 'meter_range'
            when readings.is_spike then 'meter_spike'
            when readings.energy_kwh is null then 'meter_gap'
            when
                (
                    readings.role in {{ supply_roles }}
                    and 'supply' in (judged.wrong_of_supply_and_facility, judged.wrong_of_nested)
                    and case
                        when judged.supply_kwh > 0 and judged.is_supply_estimated then readings.is_estimated
                        else readings.role = 'grid_import'
                    end
                )
                or (
                    readings.role = 'facility_total'
                    and 'facility' in (judged.wrong_of_supply_and_facility, judged.wrong_of_nested)
                )
                or (readings.role = 'it_load' and (judged.wrong_of_nested = 'it' or judged.is_it_below_nodes))
                or (readings.role = 'cooling_load' and judged.wrong_of_nested = 'cooling')
                then
                    case
                        when readings.energy_kwh = 0 then 'meter_zero_run'
                        else 'meter_contradiction'
                    end
        end as rule_id,
        judged.supply_kwh,
        judged.facility_kwh,
        judged.it_kwh,
        judged.cooling_kwh,
        judged.outer_side,
        judged.outer_kwh,
        judged.node_kwh,
        judged.is_it_below_nodes
    from plausible as readings
    left join judged
        on
            readings.site_id = judged.site_id
            and readings.compared_from_at = judged.compared_from_at

)

select
    rule_id,
    site_id,
    'meter' as subject_kind,
    meter_id as subject_id,
    meter_id,
    flow,
    interval_started_at,
    interval_ended_at,
    utc_date,
    energy_kwh as value,
    case
        when rule_id = 'meter_gap' then 'a reading'
        when rule_id = 'meter_range'
            then
                '0 to ' || round({{ tolerances["range_factor"] }} * rated_kwh, 3)
                || ' kWh: {{ tolerances["range_factor"] }} times what reference data states'
        when rule_id = 'meter_spike'
            then
                'at most {{ tolerances["spike_factor"] }} times its neighbours, '
                || round(previous_kwh, 3) || ' and ' || round(next_kwh, 3)
                || ' kWh, or another meter that moves with it'
        when role = 'it_load' and is_it_below_nodes
            then 'no less than the ' || round(node_kwh, 3) || ' kWh that the nodes drew which were watched'
        when role in {{ supply_roles }}
            then 'a supply near the ' || round(coalesce(facility_kwh, it_kwh), 3) || ' kWh that the site took'
        when role = 'facility_total'
            then 'within {{ 100 * tolerances["balance_ratio"] }} % of the supply, ' || coalesce(
                round(supply_kwh, 3) || ' kWh', 'not read'
            ) || ', and no less than IT, ' || coalesce(round(it_kwh, 3) || ' kWh', 'not read')
        else
            'IT ' || coalesce(round(it_kwh, 3) || ' kWh', 'not read') || ' and cooling '
            || coalesce(round(cooling_kwh, 3) || ' kWh', 'not read') || ' within the ' || round(outer_kwh, 3)
            || ' kWh of the ' || outer_side
    end as expected,
    source_file
from broken
where
    rule_id is not null
    and meter_id is not null
