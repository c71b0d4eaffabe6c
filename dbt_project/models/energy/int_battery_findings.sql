{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

-- A stretch of samples that begins before the days to build, or ends a little after, is seen whole.
samples as (

    select
        samples.battery_id,
        batteries.site_id,
        samples.sampled_at,
        samples.utc_date,
        samples.stored_kwh,
        samples.capacity_kwh,
        samples.source_file,
        lag(samples.stored_kwh) over sample_order as previous_stored_kwh,
        epoch(samples.sampled_at - lag(samples.sampled_at) over sample_order) / 3600 as elapsed_hours,
        batteries.power_mw * 1000 * {{ var("finding_tolerances")["battery_power_factor"] }} as rated_kw,
        {{ var("finding_tolerances")["battery_stock_ratio"] }} * samples.capacity_kwh as resolution_kwh
    from {{ ref("stg_battery_samples") }} as samples
    inner join {{ source("raw", "batteries") }} as batteries
        on
            samples.battery_id = batteries.battery_id
            and {{ is_valid_at("batteries", "samples.sampled_at") }}
    where
        samples.stored_kwh is not null
        and {{ in_build_dates("samples.utc_date", days_before=1) }}
    window sample_order as (partition by samples.battery_id order by samples.sampled_at)

),

moved as (

    select
        *,
        rated_kw * elapsed_hours + resolution_kwh as movable_kwh
    from samples

),

jumps as (

    select
        *,
        coalesce(abs(stored_kwh - previous_stored_kwh) > movable_kwh, false) as is_jump,
        count(*) filter (
            where abs(stored_kwh - previous_stored_kwh) > movable_kwh
        ) over (partition by battery_id order by sampled_at rows unbounded preceding) as stretch
    from moved

),

stretches as (

    select
        battery_id,
        stretch,
        min(sampled_at) as started_at,
        max(sampled_at) as ended_at,
        arg_min(stored_kwh, sampled_at) as opening_kwh,
        arg_max(stored_kwh, sampled_at) as closing_kwh,
        any_value(rated_kw) as rated_kw,
        max(resolution_kwh) as resolution_kwh
    from jumps
    group by battery_id, stretch

),

-- A short stretch is false where the samples around it agree with one another; after any other jump the battery's own
-- account of its stock was set anew, and holds.
judged as (

    select
        battery_id,
        stretch,
        coalesce(
            ended_at - started_at < interval 1 hour
            and abs(lead(opening_kwh) over stretch_order - lag(closing_kwh) over stretch_order)
            <= rated_kw * epoch(lead(started_at) over stretch_order - lag(ended_at) over stretch_order) / 3600
            + resolution_kwh,
            false
        ) as is_false
    from stretches
    window stretch_order as (partition by battery_id order by stretch)

),

broken as (

    select
        jumps.*,
        case
            when judged.is_false then 'battery_stock_jump'
            when jumps.is_jump and not before.is_false then 'battery_stock_step'
        end as rule_id
    from jumps
    inner join judged
        on
            jumps.battery_id = judged.battery_id
            and jumps.stretch = judged.stretch
    left join judged as before
        on
            jumps.battery_id = before.battery_id
            and jumps.stretch = before.stretch + 1

)

select
    rule_id,
    site_id,
    'battery' as subject_kind,
    battery_id as subject_id,
    battery_id,
    sampled_at,
    {{ interval_start("sampled_at") }} as interval_started_at,
    {{ interval_start("sampled_at") }} + interval 15 minutes as interval_ended_at,
    utc_date,
    stored_kwh as value,
    'within ' || round(movable_kwh, 1) || ' kWh of the sample before, ' || round(previous_stored_kwh, 1)
    || ' kWh: what the rated power can move' as expected,
    source_file
from broken
where
    rule_id is not null
    and {{ in_build_dates("utc_date") }}
