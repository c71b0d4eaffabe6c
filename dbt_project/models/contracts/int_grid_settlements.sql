{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

metered as (

    select
        meters.site_id,
        readings.interval_started_at,
        {{ worst_quality("readings.quality", "meters.role = 'grid_import'") }} as import_quality,
        {{ worst_quality("readings.quality", "meters.role = 'grid_export'") }} as export_quality
    from {{ ref("int_meter_readings") }} as readings
    inner join {{ source("raw", "meters") }} as meters
        on
            readings.meter_id = meters.meter_id
            and readings.flow = meters.flow
            and {{ is_valid_at("meters", "readings.interval_started_at") }}
    where
        meters.role in ('grid_import', 'grid_export')
        and {{ in_build_dates("readings.utc_date") }}
    group by meters.site_id, readings.interval_started_at

),

accounts as (

    select
        contracts.contract_id,
        contracts.site_id,
        contracts.kind as contract_kind,
        intervals.interval_started_at,
        intervals.interval_ended_at,
        intervals.utc_date,
        cast(intervals.interval_started_at at time zone contracts.time_zone as date) as local_date,
        {{ local_month_of("intervals.interval_started_at", "contracts.time_zone") }} as local_month,
        contracts.time_zone,
        contracts.valid_from_at as terms_valid_from_at,
        contracts.currency_code as contract_currency_code,
        roles.grid_import_kwh,
        roles.grid_export_kwh,
        case when roles.grid_import_kwh is null then 'missing' else metered.import_quality end as import_quality,
        case when roles.grid_export_kwh is null then 'missing' else metered.export_quality end as export_quality
    from {{ ref("int_site_intervals") }} as intervals
    inner join {{ source("raw", "contracts") }} as contracts
        on
            intervals.site_id = contracts.site_id
            and {{ is_valid_at("contracts", "intervals.interval_started_at") }}
    inner join {{ source("raw", "contract_kinds") }} as kinds
        on
            contracts.kind = kinds.contract_kind
            and kinds.settlement_model = 'int_grid_settlements'
    left join {{ ref("int_meter_roles_pivoted") }} as roles
        on
            intervals.site_id = roles.site_id
            and intervals.interval_started_at = roles.interval_started_at
            and {{ in_build_dates("roles.utc_date") }}
    left join metered
        on
            intervals.site_id = metered.site_id
            and intervals.interval_started_at = metered.interval_started_at
    where {{ in_build_dates("intervals.utc_date") }}

),

connected as (

    select
        accounts.*,
        terms.contracted_kw,
        terms.capacity_charge_per_kw_month,
        terms.network_per_mwh,
        terms.levies_per_mwh,
        terms.demand_charge_per_kw
    from accounts
    inner join {{ source("raw", "grid_connections") }} as terms
        on
            accounts.contract_id = terms.contract_id
            and accounts.terms_valid_from_at = terms.valid_from_at

),

supplied as (

    select
        accounts.*,
        prices.price_basis,
        prices.contract_energy_price_per_mwh,
        prices.contract_export_price_per_mwh,
        prices.contract_spot_price_per_mwh,
        prices.spot_price_per_mwh,
        prices.credits_contracted_energy
    from accounts
    inner join {{ ref("int_supply_prices") }} as prices
        on
            accounts.site_id = prices.site_id
            and accounts.contract_id = prices.contract_id
            and accounts.interval_started_at = prices.interval_started_at
            and {{ in_build_dates("prices.utc_date") }}

),

-- What generation contracts delivered, at the price of each one's own zone.
credited as (

    select
        supplied.contract_id,
        supplied.interval_started_at,
        {{ worst_quality("volumes.quality") }} as quality,
        {{ sum_if_all_known("volumes.volume_mwh") }} as volume_mwh,
        {{ sum_if_all_known(
            used_times("volumes.volume_mwh", in_contract_currency(
                "volumes.source_price_per_mwh",
                "volumes.source_currency_code",
                "supplied.contract_currency_code",
                "volumes.settlement_price_per_mwh",
                "fx_rates.rate_to_reporting"
            ))
        ) }} as value
    from supplied
    inner join {{ ref("int_contract_volumes") }} as volumes
        on
            supplied.site_id = volumes.site_id
            and supplied.interval_started_at = volumes.interval_started_at
            and {{ in_build_dates("volumes.utc_date") }}
    inner join {{ source("raw", "contract_kinds") }} as kinds
        on
            volumes.contract_kind = kinds.contract_kind
            and kinds.is_delivered
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            supplied.contract_currency_code = fx_rates.currency_code
            and supplied.utc_date = fx_rates.rate_date
    where supplied.credits_contracted_energy
    group by supplied.contract_id, supplied.interval_started_at

),

lines as (

    select
        'network' as line,
        contract_id,
        interval_started_at,
        terms_valid_from_at,
        grid_import_kwh as metered_kwh,
        cast(null as double) as volume_mwh,
        {{ kwh_to_mwh("grid_import_kwh") }} as quantity,
        'MWh' as quantity_unit,
        network_per_mwh as unit_price,
        false as is_floating_price,
        cast(null as double) as contract_settlement_price_per_mwh,
        cast(null as double) as settlement_price_per_mwh,
        'none' as clause_applied,
        import_quality as quality
    from connected

    union all

    select
        'levies' as line,
        contract_id,
        interval_started_at,
        terms_valid_from_at,
        grid_import_kwh as metered_kwh,
        null as volume_mwh,
        {{ kwh_to_mwh("grid_import_kwh") }} as quantity,
        'MWh' as quantity_unit,
        levies_per_mwh as unit_price,
        false as is_floating_price,
        null as contract_settlement_price_per_mwh,
        null as settlement_price_per_mwh,
        'none' as clause_applied,
        import_quality as quality
    from connected

    union all

    select
        'capacity' as line,
        contract_id,
        interval_started_at,
        terms_valid_from_at,
        null as metered_kwh,
        null as volume_mwh,
        contracted_kw / {{ month_intervals("local_month", "time_zone") }} as quantity,
        'kW' as quantity_unit,
        capacity_charge_per_kw_month as unit_price,
        false as is_floating_price,
        null as contract_settlement_price_per_mwh,
        null as settlement_price_per_mwh,
        'none' as clause_applied,
        null as quality
    from connected

    union all

    select
        'demand' as line,
        connected.contract_id,
        connected.interval_started_at,
        peaks.billed_terms_valid_from_at as terms_valid_from_at,
        connected.grid_import_kwh as metered_kwh,
        null as volume_mwh,
        peaks.billed_kw as quantity,
        'kW' as quantity_unit,
        -- Where the terms charge nothing for demand, nothing is charged whatever the month's peak turns out to be.
        coalesce(
            peaks.billed_demand_charge_per_kw, case when connected.demand_charge_per_kw = 0 then 0 end
        ) as unit_price,
        false as is_floating_price,
        null as contract_settlement_price_per_mwh,
        null as settlement_price_per_mwh,
        case
            when peaks.is_month_peak or peaks.billed_kw = 0 then 'none'
            when peaks.billed_kw > 0 then 'ratchet'
        end as clause_applied,
        connected.import_quality as quality
    from connected
    inner join {{ ref("int_demand_peaks") }} as peaks
        on
            connected.contract_id = peaks.contract_id
            and connected.interval_started_at = peaks.interval_started_at
            and {{ in_build_dates("peaks.utc_date") }}

    union all

    select
        'energy' as line,
        contract_id,
        interval_started_at,
        terms_valid_from_at,
        grid_import_kwh as metered_kwh,
        {{ kwh_to_mwh("grid_import_kwh") }} as volume_mwh,
        {{ kwh_to_mwh("grid_import_kwh") }} as quantity,
        'MWh' as quantity_unit,
        contract_energy_price_per_mwh as unit_price,
        price_basis = 'spot_plus' as is_floating_price,
        contract_spot_price_per_mwh as contract_settlement_price_per_mwh,
        spot_price_per_mwh as settlement_price_per_mwh,
        'none' as clause_applied,
        import_quality as quality
    from supplied

    union all

    -- A site that earns nothing for what it feeds in has no such line.
    select
        'export' as line,
        contract_id,
        interval_started_at,
        terms_valid_from_at,
        grid_export_kwh as metered_kwh,
        null as volume_mwh,
        {{ kwh_to_mwh("grid_export_kwh") }} as quantity,
        'MWh' as quantity_unit,
        -contract_export_price_per_mwh as unit_price,
        false as is_floating_price,
        null as contract_settlement_price_per_mwh,
        null as settlement_price_per_mwh,
        'none' as clause_applied,
        export_quality as quality
    from supplied
    where contract_export_price_per_mwh is not null

    union all

    select
        'contract_credit' as line,
        supplied.contract_id,
        supplied.interval_started_at,
        supplied.terms_valid_from_at,
        null as metered_kwh,
        null as volume_mwh,
        credited.volume_mwh as quantity,
        'MWh' as quantity_unit,
        -credited.value / nullif(credited.volume_mwh, 0) as unit_price,
        true as is_floating_price,
        null as contract_settlement_price_per_mwh,
        null as settlement_price_per_mwh,
        'none' as clause_applied,
        credited.quality
    from supplied
    inner join credited
        on
            supplied.contract_id = credited.contract_id
            and supplied.interval_started_at = credited.interval_started_at

)

select
    accounts.contract_id,
    accounts.site_id,
    accounts.contract_kind,
    lines.line,
    accounts.interval_started_at,
    accounts.interval_ended_at,
    accounts.utc_date,
    accounts.local_date,
    accounts.local_month,
    lines.terms_valid_from_at,
    lines.metered_kwh,
    lines.volume_mwh,
    round(lines.quantity, 12) as quantity,
    lines.quantity_unit,
    round(lines.unit_price, 9) as unit_price,
    lines.is_floating_price,
    lines.contract_settlement_price_per_mwh,
    lines.settlement_price_per_mwh,
    lines.clause_applied,
    case
        when lines.unit_price = 0 then 0
        else round({{ used_times("lines.quantity", "lines.unit_price") }}, 9)
    end as contract_amount,
    accounts.contract_currency_code,
    false as is_shadow,
    lines.quality
from lines
inner join accounts
    on
        lines.contract_id = accounts.contract_id
        and lines.interval_started_at = accounts.interval_started_at
