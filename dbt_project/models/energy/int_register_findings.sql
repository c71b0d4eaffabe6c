{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{% set tolerances = var("finding_tolerances") %}

with

-- From each read of a register to the next.
reads as (

    select
        meter_id,
        flow,
        meter_serial,
        read_at as started_at,
        index_kwh,
        resolution_kwh,
        lead(read_at) over meter_order as ended_at,
        lead(meter_serial) over meter_order as next_serial,
        lead(index_kwh) over meter_order as next_index_kwh,
        lead(source_file) over meter_order as source_file
    from {{ ref("stg_register_reads") }}
    window meter_order as (
        partition by meter_id, flow
        order by read_at, meter_serial
    )

),

spans as (

    select
        meters.site_id,
        reads.meter_id,
        reads.flow,
        reads.started_at,
        reads.ended_at,
        cast(reads.ended_at - interval 1 microsecond as date) as utc_date,
        (reads.next_index_kwh - reads.index_kwh) * meters.multiplier as register_kwh,
        {{ tolerances["register_ratio"] }} * (reads.next_index_kwh - reads.index_kwh) * meters.multiplier
        + {{ tolerances["register_units"] }} * reads.resolution_kwh * meters.multiplier as tolerance_kwh,
        reads.source_file
    from reads
    inner join {{ source("raw", "meters") }} as meters
        on
            reads.meter_id = meters.meter_id
            and reads.flow = meters.flow
            and {{ is_valid_at("meters", "reads.started_at") }}
            and {{ is_valid_at("meters", "(reads.ended_at - interval 1 microsecond)") }}
    where
        reads.ended_at > reads.started_at
        and reads.next_index_kwh >= reads.index_kwh
        and reads.meter_serial is not distinct from reads.next_serial
        and {{ in_build_dates("cast(reads.ended_at - interval 1 microsecond as date)") }}

),

-- A reading is looked up by its day: spans may be as short and as many as days.
span_days as (

    select
        *,
        unnest(generate_series(cast(started_at as date), utc_date, interval 1 day)) as read_date
    from spans

),

-- A read within an interval leaves open how much of it came before: the sum lies between that of the intervals that
-- lie wholly between both reads and that of all that touch them.
sums as (

    select
        spans.site_id,
        spans.meter_id,
        spans.flow,
        spans.started_at,
        spans.ended_at,
        spans.utc_date,
        spans.register_kwh,
        spans.tolerance_kwh,
        spans.source_file,
        coalesce(
            {{ exact_sum(
                "readings.energy_kwh",
                "readings.interval_started_at >= spans.started_at and readings.interval_ended_at <= spans.ended_at"
            ) }},
            0
        ) as least_kwh,
        {{ exact_sum("readings.energy_kwh") }} as most_kwh
    from span_days as spans
    inner join {{ ref("stg_meter_readings") }} as readings
        on
            spans.meter_id = readings.meter_id
            and spans.flow = readings.flow
            and spans.read_date = readings.utc_date
            and spans.started_at < readings.interval_ended_at
            and spans.ended_at > readings.interval_started_at
    left join {{ ref("int_meter_findings") }} as out_of_range
        on
            readings.meter_id = out_of_range.meter_id
            and readings.flow = out_of_range.flow
            and readings.interval_started_at = out_of_range.interval_started_at
            and out_of_range.rule_id = 'meter_range'
    group by all
    having
        count(readings.energy_kwh) filter (where out_of_range.rule_id is null)
        = epoch({{ interval_end("spans.ended_at") }} - {{ interval_start("spans.started_at") }}) / 900

)

select
    'meter_register_sum' as rule_id,
    site_id,
    'meter' as subject_kind,
    meter_id as subject_id,
    meter_id,
    flow,
    started_at as interval_started_at,
    ended_at as interval_ended_at,
    utc_date,
    case when least_kwh > register_kwh then least_kwh else most_kwh end as value,
    'within ' || round(tolerance_kwh, 3) || ' kWh of the ' || round(register_kwh, 3)
    || ' kWh by which the register went on from one read to the next' as expected,
    source_file
from sums
where
    least_kwh > register_kwh + tolerance_kwh
    or most_kwh < register_kwh - tolerance_kwh
