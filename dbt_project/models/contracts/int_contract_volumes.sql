{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{# A run of negative hours is looked for over at most 24 hours; like a month, it may begin before the days to build. #}
{% set days_before = 3 %}
{% set month_days_before = 33 %}

with

terms as (

    select
        contracts.*,
        kinds.volume_basis,
        coalesce(contracts.negative_price_period_minutes, contracts.settlement_period_minutes)
            as clause_period_minutes,
        contracts.negative_price_hours > 1 or contracts.negative_price_scope = 'remainder' as has_negative_runs,
        kinds.volume_basis = 'plant' or coalesce(contracts.shape_risk = 'buyer', false) as is_metered
    from {{ source("raw", "contracts") }} as contracts
    inner join {{ source("raw", "contract_kinds") }} as kinds
        on
            contracts.kind = kinds.contract_kind
            and kinds.is_ppa

),

-- The clocks by which a contract settles and its clauses look at prices; one without minutes is that of local months.
terms_clocks as (

    select
        contract_id,
        time_zone,
        settlement_zone,
        market,
        unnest([settlement_period_minutes, clause_period_minutes]) as period_minutes,
        unnest([false, has_negative_runs]) as has_negative_runs
    from terms

),

clocks as (

    select
        contract_id,
        time_zone,
        settlement_zone,
        market,
        period_minutes,
        bool_or(has_negative_runs) as has_negative_runs
    from terms_clocks
    group by contract_id, time_zone, settlement_zone, market, period_minutes

),

readings as (

    select *
    from {{ ref("int_meter_readings") }}
    where
        flow = 'export'
        and {{ in_build_dates("utc_date") }}

),

contracts as (

    select distinct
        contract_id,
        site_id
    from terms

),

plants as (

    select distinct
        contract_id,
        site_id,
        plant_meter_id
    from terms
    where plant_meter_id is not null

),

site_intervals as (

    select
        site_id,
        interval_started_at
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

plant_spans as (

    select
        plants.contract_id,
        plants.site_id,
        min(readings.interval_started_at) as first_started_at,
        max(readings.interval_started_at) + interval 15 minutes as last_ended_at
    from plants
    inner join readings on plants.plant_meter_id = readings.meter_id
    group by plants.contract_id, plants.site_id
    {% if is_incremental() %}
    union all

    -- A contract that was there on the day before goes on; of what was not read of its plant nothing is known.
    select
        earlier.contract_id,
        earlier.site_id,
        max(earlier.interval_started_at) as first_started_at,
        cast(null as timestamptz) as last_ended_at
    from {{ this }} as earlier
    semi join plants on earlier.contract_id = plants.contract_id
    where
        {{ in_build_dates("earlier.utc_date", days_before=1) }}
        and not {{ in_build_dates("earlier.utc_date") }}
    group by earlier.contract_id, earlier.site_id
    {% endif %}

),

site_starts as (

    select
        site_id,
        min(interval_started_at) as started_at
    from site_intervals
    group by site_id

),

-- A plant may run before its site has a meter, or is there at all.
plant_spines as (

    select
        plant_spans.contract_id,
        unnest(
            generate_series(
                greatest(
                    min(plant_spans.first_started_at), {{ build_from() or "min(plant_spans.first_started_at)" }}
                ),
                -- least() passes over the start of a site that is not in the book.
                least(max(plant_spans.last_ended_at), min(site_starts.started_at)) - interval 15 minutes,
                interval 15 minutes
            )
        ) as interval_started_at
    from plant_spans
    left join site_starts on plant_spans.site_id = site_starts.site_id
    group by plant_spans.contract_id

),

-- A contract settles while its site is in the book, and before that from the first reading of its plant on.
intervals as (

    select
        contracts.contract_id,
        site_intervals.interval_started_at
    from site_intervals
    inner join contracts on site_intervals.site_id = contracts.site_id

    union all

    select
        contract_id,
        interval_started_at
    from plant_spines

),

-- Where a market has several sequences, the first is the one contracts refer to.
prices as (

    select
        clocks.contract_id,
        clocks.time_zone,
        clocks.period_minutes,
        clocks.has_negative_runs,
        {{ settlement_period_start("prices.interval_started_at", "clocks.time_zone", "clocks.period_minutes") }}
            as period_started_at,
        prices.price_per_mwh,
        prices.source_price_per_mwh,
        prices.source_currency_code
    from {{ ref("int_market_prices") }} as prices
    inner join clocks
        on
            prices.zone = clocks.settlement_zone
            and prices.market = clocks.market
    where
        prices.sequence = 1
        and {{ in_build_dates("prices.utc_date", days_before=month_days_before) }}
        and (clocks.period_minutes is null or {{ in_build_dates("prices.utc_date", days_before=days_before) }})

),

counted as (

    select
        *,
        coalesce(
            period_minutes / 15,
            {{ month_intervals(local_month_of("period_started_at", "time_zone"), "time_zone") }}
        ) as expected_count
    from prices

),

periods as (

    select
        contract_id,
        time_zone,
        period_minutes,
        has_negative_runs,
        period_started_at,
        {%- for price in ["price_per_mwh", "source_price_per_mwh"] %}
        {{ if_all_known(price, mean_of(price), of="any_value(expected_count)") }} as {{ price }},
        {%- endfor %}
        any_value(source_currency_code) as source_currency_code
    from counted
    group by contract_id, time_zone, period_minutes, has_negative_runs, period_started_at

),

-- An hour is negative when each of its periods is; null where one that is missing decides it.
hours as (

    select
        contract_id,
        period_minutes,
        {{ period_start("period_started_at", "time_zone", 60) }} as hour_started_at,
        case
            when max(source_price_per_mwh) >= 0 then false
            when count(source_price_per_mwh) = 60 / period_minutes then true
        end as is_negative
    from periods
    where has_negative_runs
    group by contract_id, period_minutes, hour_started_at

),

-- Nobody knows the hours before the first price and after the last.
spine as (

    select
        contract_id,
        period_minutes,
        unnest(
            generate_series(
                min(hour_started_at) - interval 1 hour, max(hour_started_at) + interval 1 hour, interval 1 hour
            )
        ) as hour_started_at
    from hours
    group by contract_id, period_minutes

),

-- A run is told from the next by the hours before it that do not belong to one: surely, or possibly.
marked as (

    select
        spine.contract_id,
        spine.period_minutes,
        spine.hour_started_at,
        hours.is_negative,
        count(*) filter (where hours.is_negative is not true) over earlier as known_run,
        count(*) filter (where hours.is_negative is false) over earlier as possible_run
    from spine
    left join hours
        on
            spine.contract_id = hours.contract_id
            and spine.period_minutes = hours.period_minutes
            and spine.hour_started_at = hours.hour_started_at
    window earlier as (partition by spine.contract_id, spine.period_minutes order by spine.hour_started_at)

),

runs as (

    select
        contract_id,
        period_minutes,
        hour_started_at,
        is_negative,
        count(*) filter (where is_negative) over known as known_hours,
        count(*) filter (where is_negative is not false) over possible as possible_hours,
        count(*) filter (where is_negative) over (known order by hour_started_at) as known_position,
        count(*) filter (where is_negative is not false) over (possible order by hour_started_at) as possible_position
    from marked
    window
        known as (partition by contract_id, period_minutes, known_run),
        possible as (partition by contract_id, period_minutes, possible_run)

),

localized as (

    select
        terms.*,
        intervals.interval_started_at,
        intervals.interval_started_at + interval 15 minutes as interval_ended_at,
        cast(intervals.interval_started_at as date) as utc_date,
        organization.reporting_currency as reporting_currency_code,
        intervals.interval_started_at at time zone terms.time_zone as local_started_at,
        {%- for clock in ["settlement", "clause"] %}
        {{ settlement_period_start(
            "intervals.interval_started_at", "terms.time_zone", "terms." ~ clock ~ "_period_minutes"
        ) }} as {{ clock }}_period_started_at,
        {%- endfor %}
        {{ period_start("intervals.interval_started_at", "terms.time_zone", 60) }} as hour_started_at
    from intervals
    cross join {{ source("raw", "organization") }} as organization
    inner join terms
        on
            intervals.contract_id = terms.contract_id
            and {{ is_valid_at("terms", "intervals.interval_started_at") }}

),

priced as (

    select
        localized.*,
        readings.energy_kwh as metered_kwh,
        case when localized.is_metered then coalesce(readings.quality, 'missing') end as quality,
        {{ kwh_to_mwh("readings.energy_kwh * localized.share_of_plant") }} as share_mwh,
        {{ interval_mw_to_mwh("coalesce(shapes.power_mw, 0)") }} as shape_mwh,
        periods.price_per_mwh as settlement_price_per_mwh,
        periods.source_price_per_mwh,
        periods.source_currency_code,
        case
            when localized.negative_price_clause = 'none' then false
            when not localized.has_negative_runs then clause_periods.source_price_per_mwh < 0
            when not runs.is_negative then false
            when
                localized.negative_price_scope = 'whole_run'
                and runs.possible_hours < localized.negative_price_hours
                then false
            when
                localized.negative_price_scope = 'whole_run'
                and runs.is_negative
                and runs.known_hours >= localized.negative_price_hours
                then true
            when
                localized.negative_price_scope = 'remainder'
                and runs.possible_position <= localized.negative_price_hours
                then false
            when
                localized.negative_price_scope = 'remainder'
                and runs.is_negative
                and runs.known_position > localized.negative_price_hours
                then true
        end as is_clause_applied
    from localized
    left join readings
        on
            localized.plant_meter_id = readings.meter_id
            and localized.interval_started_at = readings.interval_started_at
    left join {{ source("raw", "contract_shapes") }} as shapes
        on
            localized.contract_id = shapes.contract_id
            and localized.valid_from_at = shapes.valid_from_at
            and {{ is_in_months("month(localized.local_started_at)", "shapes.month_from", "shapes.month_to") }}
            and {{ is_in_hours("hour(localized.local_started_at)", "shapes.hour_from", "shapes.hour_to") }}
            and shapes.day_kind in (
                'all', case when isodow(localized.local_started_at) <= 5 then 'workday' else 'weekend' end
            )
    left join periods
        on
            localized.contract_id = periods.contract_id
            and localized.settlement_period_started_at = periods.period_started_at
            and localized.settlement_period_minutes is not distinct from periods.period_minutes
    left join periods as clause_periods
        on
            localized.contract_id = clause_periods.contract_id
            and localized.clause_period_started_at = clause_periods.period_started_at
            and localized.clause_period_minutes is not distinct from clause_periods.period_minutes
    left join runs
        on
            localized.contract_id = runs.contract_id
            and localized.clause_period_minutes = runs.period_minutes
            and localized.hour_started_at = runs.hour_started_at

),

delivered as (

    select
        *,
        case
            when is_clause_applied then negative_price_clause
            when not is_clause_applied then 'none'
        end as clause_applied,
        -- A negative price voids the volume, whether it was read or not.
        case
            when negative_price_clause <> 'no_volume' or not is_clause_applied then 1
            when is_clause_applied then 0
        end as kept_ratio,
        case volume_basis
            when 'plant' then share_mwh
            when 'baseload' then {{ interval_mw_to_mwh("baseload_mw") }}
            when 'shape' then shape_mwh
        end as delivered_mwh
    from priced

)

select
    delivered.contract_id,
    delivered.site_id,
    delivered.interval_started_at,
    delivered.interval_ended_at,
    delivered.utc_date,
    cast(delivered.local_started_at as date) as local_date,
    cast(date_trunc('month', delivered.local_started_at) as date) as local_month,
    delivered.kind as contract_kind,
    delivered.valid_from_at as terms_valid_from_at,
    delivered.energy_source,
    delivered.are_certificates_bundled,
    delivered.metered_kwh,
    {{ used_times("delivered.kept_ratio", "delivered.share_mwh") }} as produced_mwh,
    {{ used_times("delivered.kept_ratio", "delivered.delivered_mwh") }} as volume_mwh,
    delivered.settlement_price_per_mwh,
    delivered.source_price_per_mwh,
    delivered.source_currency_code,
    prices.escalation_ratio,
    prices.contract_price_per_mwh,
    prices.floor_price_per_mwh,
    prices.cap_price_per_mwh,
    delivered.currency_code as contract_currency_code,
    delivered.clause_applied,
    delivered.reporting_currency_code as currency_code,
    delivered.quality
from delivered
left join {{ ref("int_contract_prices") }} as prices
    on
        delivered.contract_id = prices.contract_id
        and delivered.valid_from_at = prices.terms_valid_from_at
        and delivered.interval_started_at >= prices.started_at
        and delivered.interval_started_at < coalesce(prices.ended_at, timestamptz 'infinity')
