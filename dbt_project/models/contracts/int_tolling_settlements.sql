{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

terms as (

    select
        contracts.*,
        min(contracts.valid_from_at) over (partition by contracts.contract_id) as contract_started_at
    from {{ source("raw", "contracts") }} as contracts
    inner join {{ source("raw", "contract_kinds") }} as kinds
        on
            contracts.kind = kinds.contract_kind
            and kinds.settlement_model = 'int_tolling_settlements'

),

-- A month's measures need the whole month, a limit per contract year the whole year so far.
intervals as (

    select
        terms.contract_id,
        terms.site_id,
        terms.kind as contract_kind,
        terms.currency_code as contract_currency_code,
        terms.valid_from_at as terms_valid_from_at,
        terms.tolled_mw,
        terms.fixed_fee_per_mw_month,
        terms.variable_fee_per_mwh,
        terms.guaranteed_availability_ratio,
        terms.damages_per_mwh_unavailable,
        terms.guaranteed_round_trip_ratio,
        terms.round_trip_damages_per_mwh,
        terms.throughput_limit_mwh_per_year,
        terms.excess_throughput_per_mwh,
        terms.valid_to_at as terms_valid_to_at,
        batteries.interval_started_at,
        batteries.interval_ended_at,
        batteries.utc_date,
        cast(batteries.interval_started_at at time zone terms.time_zone as date) as local_date,
        {{ local_month_of("batteries.interval_started_at", "terms.time_zone") }} as local_month,
        terms.time_zone,
        date_sub(
            'year',
            terms.contract_started_at at time zone terms.time_zone,
            batteries.interval_started_at at time zone terms.time_zone
        ) as contract_year,
        batteries.is_available,
        batteries.charge_kwh,
        batteries.discharge_kwh,
        batteries.opening_stored_kwh,
        batteries.closing_stored_kwh
    from {{ ref("int_battery_intervals") }} as batteries
    inner join terms
        on
            batteries.battery_id = terms.battery_id
            and {{ is_valid_at("terms", "batteries.interval_started_at") }}
    where {{ in_build_dates("batteries.utc_date", days_before=400) }}

),

measured as (

    select
        *,
        {{ month_intervals("local_month", "time_zone") }} as month_interval_count,
        {{ kwh_to_mwh("discharge_kwh") }} as discharge_mwh,
        {{ kwh_to_mwh(sum_if_all_known("discharge_kwh", over="year_so_far")) }} as year_discharge_mwh
    from intervals
    window
        year_so_far as (
            partition by contract_id, contract_year
            order by interval_started_at
        )

),

-- A date at which terms change splits the month: each part is measured by itself, against its own guarantees.
parts as (

    select
        contract_id,
        terms_valid_from_at,
        local_month,
        max(interval_started_at) as last_started_at,
        count(*) as interval_count,
        count(*) filter (where not is_available) as unavailable_interval_count,
        count(is_available) = count(*) as is_availability_known,
        count(*) filter (where is_available) / count(*) as availability_ratio,
        {{ kwh_to_mwh(sum_if_all_known("discharge_kwh")) }} as discharge_mwh,
        {{ kwh_to_mwh(
            sum_if_all_known("charge_kwh")
            ~ " - (arg_max_null(closing_stored_kwh, interval_started_at)"
            " - arg_min_null(opening_stored_kwh, interval_started_at))"
        ) }} as net_charge_mwh
    from measured
    group by contract_id, terms_valid_from_at, local_month

),

judged as (

    select
        measured.*,
        case
            when measured.is_available then 0
            when not parts.is_availability_known then null
            when parts.availability_ratio >= measured.guaranteed_availability_ratio then 0
            else
                (measured.guaranteed_availability_ratio - parts.availability_ratio) * parts.interval_count
                * measured.tolled_mw / 4 / parts.unavailable_interval_count
        end as damaged_mwh,
        case
            when measured.year_discharge_mwh <= measured.throughput_limit_mwh_per_year then 0
            when measured.year_discharge_mwh - measured.discharge_mwh >= measured.throughput_limit_mwh_per_year
                then measured.discharge_mwh
            else measured.year_discharge_mwh - measured.throughput_limit_mwh_per_year
        end as excess_mwh,
        measured.interval_ended_at = least(
            cast(measured.local_month + interval 1 month as timestamp) at time zone measured.time_zone,
            coalesce(measured.terms_valid_to_at, timestamptz 'infinity')
        ) as is_end_of_part,
        case
            when parts.discharge_mwh >= measured.guaranteed_round_trip_ratio * parts.net_charge_mwh then 0
            else measured.guaranteed_round_trip_ratio * parts.net_charge_mwh - parts.discharge_mwh
        end as round_trip_loss_mwh
    from measured
    inner join parts
        on
            measured.contract_id = parts.contract_id
            and measured.terms_valid_from_at = parts.terms_valid_from_at
            and measured.local_month = parts.local_month
    where {{ in_build_dates("measured.utc_date") }}

),

lines as (

    select
        'fixed_fee' as line,
        contract_id,
        interval_started_at,
        cast(null as double) as metered_kwh,
        tolled_mw / month_interval_count as quantity,
        'MW-month' as quantity_unit,
        fixed_fee_per_mw_month as unit_price,
        'none' as clause_applied
    from judged

    union all

    select
        'variable_fee' as line,
        contract_id,
        interval_started_at,
        discharge_kwh as metered_kwh,
        discharge_mwh as quantity,
        'MWh' as quantity_unit,
        variable_fee_per_mwh as unit_price,
        'none' as clause_applied
    from judged
    where variable_fee_per_mwh is not null

    union all

    select
        'excess_throughput' as line,
        contract_id,
        interval_started_at,
        discharge_kwh as metered_kwh,
        excess_mwh as quantity,
        'MWh' as quantity_unit,
        excess_throughput_per_mwh as unit_price,
        case when excess_mwh = 0 then 'none' when excess_mwh > 0 then 'throughput_limit' end as clause_applied
    from judged
    where throughput_limit_mwh_per_year is not null

    union all

    select
        'availability_damages' as line,
        contract_id,
        interval_started_at,
        null as metered_kwh,
        damaged_mwh as quantity,
        'MWh' as quantity_unit,
        -damages_per_mwh_unavailable as unit_price,
        case when damaged_mwh = 0 then 'none' when damaged_mwh > 0 then 'availability_guarantee' end as clause_applied
    from judged

    union all

    select
        'round_trip_damages' as line,
        contract_id,
        interval_started_at,
        null as metered_kwh,
        round_trip_loss_mwh as quantity,
        'MWh' as quantity_unit,
        -round_trip_damages_per_mwh as unit_price,
        case
            when round_trip_loss_mwh = 0 then 'none' when round_trip_loss_mwh > 0 then 'round_trip_guarantee'
        end as clause_applied
    from judged
    where
        guaranteed_round_trip_ratio is not null
        and is_end_of_part

)

select
    judged.contract_id,
    judged.site_id,
    judged.contract_kind,
    lines.line,
    judged.interval_started_at,
    judged.interval_ended_at,
    judged.utc_date,
    judged.local_date,
    judged.local_month,
    judged.terms_valid_from_at,
    lines.metered_kwh,
    cast(null as double) as volume_mwh,
    round(lines.quantity, 12) as quantity,
    lines.quantity_unit,
    round(lines.unit_price, 9) as unit_price,
    false as is_floating_price,
    cast(null as double) as contract_settlement_price_per_mwh,
    cast(null as double) as settlement_price_per_mwh,
    lines.clause_applied,
    round({{ used_times("lines.quantity", "lines.unit_price") }}, 9) as contract_amount,
    judged.contract_currency_code,
    false as is_shadow,
    cast(null as varchar) as quality
from lines
inner join judged
    on
        lines.contract_id = judged.contract_id
        and lines.interval_started_at = judged.interval_started_at
