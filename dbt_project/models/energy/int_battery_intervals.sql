{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

expected as (

    select
        batteries.battery_id,
        intervals.site_id,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        intervals.sustain_hours,
        batteries.reserve_ratio,
        batteries.charge_efficiency as charge_efficiency_ratio,
        batteries.discharge_efficiency as discharge_efficiency_ratio,
        batteries.degradation_cost_per_mwh * intervals.exchange_rate as degradation_cost_per_mwh,
        batteries.energy_mwh * 1000 as rated_capacity_kwh,
        intervals.currency_code
    from {{ ref("int_site_intervals") }} as intervals
    inner join {{ source("raw", "batteries") }} as batteries
        on
            intervals.site_id = batteries.site_id
            and {{ is_valid_at("batteries", "intervals.interval_started_at") }}
    where {{ in_build_dates("intervals.utc_date") }}

),

samples as (

    select
        battery_id,
        {{ interval_start("sampled_at") }} as interval_started_at,
        count(sampled_at) as sample_count,
        -- Both pass over nulls.
        arg_min(stored_kwh, sampled_at) as first_stored_kwh,
        arg_max(stored_kwh, sampled_at) as last_stored_kwh,
        arg_max(capacity_kwh, sampled_at) as capacity_kwh,
        {{ exact_sum("available_discharge_kw") }} / count(available_discharge_kw) as available_discharge_kw,
        bool_or(state in ('fault', 'disconnected')) as has_fault,
        {{ exact_sum("greatest(-discharging_kw, 0)") }} / count(discharging_kw) / 4 as charge_from_power_kwh,
        {{ exact_sum("greatest(discharging_kw, 0)") }} / count(discharging_kw) / 4 as discharge_from_power_kwh
    from {{ ref("stg_battery_samples") }} as samples
    where
        {{ in_build_dates("utc_date") }}
        and not exists (
            select 1
            from {{ ref("int_battery_findings") }} as findings
            where
                findings.battery_id = samples.battery_id
                and findings.sampled_at = samples.sampled_at
                and findings.rule_id = 'battery_stock_jump'
        )
    group by battery_id, {{ interval_start("sampled_at") }}

),

metered as (

    select
        meters.battery_id,
        expected.interval_started_at,
        bool_or(meters.role = 'battery_charge') as has_charge_meter,
        bool_or(meters.role = 'battery_discharge') as has_discharge_meter,
        {{ sum_if_all_known("readings.energy_kwh", condition="meters.role = 'battery_charge'") }} as charge_kwh,
        {{ sum_if_all_known("readings.energy_kwh", condition="meters.role = 'battery_discharge'") }} as discharge_kwh
    from expected
    inner join {{ source("raw", "meters") }} as meters
        on
            expected.battery_id = meters.battery_id
            and {{ is_valid_at("meters", "expected.interval_started_at") }}
    left join {{ ref("int_meter_readings") }} as readings
        on
            meters.meter_id = readings.meter_id
            and meters.flow = readings.flow
            and expected.interval_started_at = readings.interval_started_at
            and {{ in_build_dates("readings.utc_date") }}
    group by meters.battery_id, expected.interval_started_at

),

joined as (

    select
        expected.*,
        samples.sample_count,
        coalesce(samples.capacity_kwh, expected.rated_capacity_kwh) as capacity_kwh,
        samples.first_stored_kwh as opening_stored_kwh,
        coalesce(
            lead(samples.first_stored_kwh) over (
                partition by expected.battery_id
                order by expected.interval_started_at
            ),
            samples.last_stored_kwh
        ) as closing_stored_kwh,
        samples.available_discharge_kw,
        not samples.has_fault and samples.available_discharge_kw > 0 as is_available,
        -- What no meter counts, the battery's own power samples tell.
        coalesce(metered.has_charge_meter, false) as is_charge_metered,
        coalesce(metered.has_discharge_meter, false) as is_discharge_metered,
        case
            when metered.has_charge_meter then metered.charge_kwh
            else {{ round_kwh("samples.charge_from_power_kwh") }}
        end as charge_kwh,
        case
            when metered.has_discharge_meter then metered.discharge_kwh
            else {{ round_kwh("samples.discharge_from_power_kwh") }}
        end as discharge_kwh
    from expected
    left join samples
        on
            expected.battery_id = samples.battery_id
            and expected.interval_started_at = samples.interval_started_at
    left join metered
        on
            expected.battery_id = metered.battery_id
            and expected.interval_started_at = metered.interval_started_at

),

usable as (

    select
        *,
        -- greatest() and least() pass over nulls: an unknown stock must not become an empty one, nor unknown power
        -- whatever the stock would last for.
        case
            when opening_stored_kwh is not null
                then {{ round_kwh("greatest(0, opening_stored_kwh - reserve_ratio * capacity_kwh)") }}
        end as usable_kwh
    from joined

)

select
    battery_id,
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    coalesce(sample_count, 0) as sample_count,
    opening_stored_kwh,
    -- The state after an interval without samples is that of the next sample; without one it is not known.
    case when opening_stored_kwh is not null then closing_stored_kwh end as closing_stored_kwh,
    capacity_kwh,
    reserve_ratio,
    charge_efficiency_ratio,
    discharge_efficiency_ratio,
    degradation_cost_per_mwh,
    currency_code,
    is_charge_metered,
    is_discharge_metered,
    charge_kwh,
    discharge_kwh,
    available_discharge_kw,
    is_available,
    usable_kwh,
    case
        when not is_available then 0
        when available_discharge_kw is not null and usable_kwh is not null
            then least(available_discharge_kw, usable_kwh * discharge_efficiency_ratio / sustain_hours)
    end as sustained_kw,
    is_available and usable_kwh <= 0.005 * capacity_kwh as is_depleted
from usable
