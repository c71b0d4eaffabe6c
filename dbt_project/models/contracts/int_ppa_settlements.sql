{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

terms as (

    select *
    from {{ source("raw", "contracts") }}

),

-- What a volume band comes to is known from the whole year, so that its contracts are read from a year before.
volumes as (

    select
        volumes.*,
        kinds.is_delivered,
        kinds.is_collared,
        terms.time_zone,
        terms.shape_risk,
        terms.certificate_price_per_mwh,
        terms.annual_volume_mwh,
        terms.tolerance_ratio,
        terms.shortfall_price_per_mwh,
        terms.excess_price_per_mwh,
        -- Who pays the strike is paid the market's price.
        case when terms.fixed_price_payer = 'counterparty' then -1 else 1 end as direction,
        cast(date_trunc('year', volumes.local_date) as date) as local_year
    from {{ ref("int_contract_volumes") }} as volumes
    inner join {{ source("raw", "contract_kinds") }} as kinds on volumes.contract_kind = kinds.contract_kind
    inner join terms
        on
            volumes.contract_id = terms.contract_id
            and volumes.terms_valid_from_at = terms.valid_from_at
    where
        {{ in_build_dates("volumes.utc_date", days_before=367) }}
        and (terms.annual_volume_mwh is not null or {{ in_build_dates("volumes.utc_date") }})

),

converted as (

    select
        volumes.*,
        {{ in_contract_currency(
            "volumes.source_price_per_mwh",
            "volumes.source_currency_code",
            "volumes.contract_currency_code",
            "volumes.settlement_price_per_mwh",
            "fx_rates.rate_to_reporting"
        ) }} as contract_settlement_price_per_mwh
    from volumes
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            volumes.contract_currency_code = fx_rates.currency_code
            and volumes.utc_date = fx_rates.rate_date

),

floored as (

    select
        *,
        case
            when clause_applied = 'zero_floor' then greatest(contract_settlement_price_per_mwh, 0)
            when clause_applied is not null then contract_settlement_price_per_mwh
        end as floating_price_per_mwh
    from converted

),

priced as (

    select
        *,
        case
            when not is_collared or clause_applied = 'no_volume' then clause_applied
            when escalation_ratio is null then null
            when floating_price_per_mwh < floor_price_per_mwh then 'floor'
            when floating_price_per_mwh > cap_price_per_mwh then 'cap'
            when floating_price_per_mwh is not null then clause_applied
        end as price_clause_applied,
        case
            when not is_collared then contract_price_per_mwh
            when floating_price_per_mwh is not null and escalation_ratio is not null
                then least(greatest(floating_price_per_mwh, floor_price_per_mwh), cap_price_per_mwh)
        end as energy_price_per_mwh
    from floored

),

band_years as (

    select distinct
        contract_id,
        local_year
    from priced
    where annual_volume_mwh is not null

),

-- A year of which the terms with a band hold only a part is agreed on, and settled, for that part.
year_parts as (

    select
        terms.contract_id,
        band_years.local_year,
        terms.time_zone,
        greatest(terms.valid_from_at, cast(band_years.local_year as timestamp) at time zone terms.time_zone)
            as started_at,
        -- least() passes over the end of terms that have none.
        least(
            terms.valid_to_at, cast(band_years.local_year + interval 1 year as timestamp) at time zone terms.time_zone
        ) as ended_at
    from terms
    inner join band_years on terms.contract_id = band_years.contract_id
    where terms.annual_volume_mwh is not null

),

years as (

    select
        contract_id,
        local_year,
        max(ended_at) as ended_at,
        sum(date_diff('minute', started_at, ended_at)) / 15 as interval_count,
        {{ expected_intervals(
            "cast(local_year as timestamp)",
            "cast(local_year + interval 1 year as timestamp)",
            "any_value(time_zone)"
        ) }} as year_interval_count
    from year_parts
    where started_at < ended_at
    group by contract_id, local_year

),

year_volumes as (

    select
        years.contract_id,
        years.ended_at,
        {{ sum_if_all_known("priced.volume_mwh", of="years.interval_count") }}
            as volume_mwh,
        round({{ exact_sum("priced.annual_volume_mwh") }} / years.year_interval_count, 9) as agreed_mwh,
        {{ sum_if_all_known(
            used_times("priced.volume_mwh", "priced.energy_price_per_mwh"), of="years.interval_count"
        ) }} as energy_amount
    from priced
    inner join years
        on
            priced.contract_id = years.contract_id
            and priced.local_year = years.local_year
    where priced.annual_volume_mwh is not null
    group by years.contract_id, years.ended_at, years.interval_count, years.year_interval_count

),

-- The last interval of a year bears what the year comes to, at the prices of the terms then in force.
year_ends as (

    select
        priced.*,
        year_volumes.energy_amount / nullif(year_volumes.volume_mwh, 0) as mean_price_per_mwh,
        case
            when year_volumes.volume_mwh is not null
                then
                    round(
                        greatest(
                            year_volumes.agreed_mwh * (1 - priced.tolerance_ratio) - year_volumes.volume_mwh, 0
                        ), 9
                    )
        end as shortfall_mwh,
        case
            when year_volumes.volume_mwh is not null
                then
                    round(
                        greatest(
                            year_volumes.volume_mwh - year_volumes.agreed_mwh * (1 + priced.tolerance_ratio), 0
                        ), 9
                    )
        end as excess_mwh
    from priced
    inner join year_volumes
        on
            priced.contract_id = year_volumes.contract_id
            and priced.interval_ended_at = year_volumes.ended_at

),

{# Columns that every line takes over from its contract and interval. #}
{% set common = [
    "contract_id",
    "site_id",
    "contract_kind",
    "interval_started_at",
    "interval_ended_at",
    "utc_date",
    "local_date",
    "local_month",
    "terms_valid_from_at",
    "metered_kwh",
    "contract_currency_code",
    "quality",
] %}

lines as (

    select
        {{ common | join(", ") }},
        'energy' as line,
        -- Who bears the plant's shape pays the contract price for what it made, and the market's for the rest.
        case when shape_risk = 'buyer' then produced_mwh else volume_mwh end as quantity,
        energy_price_per_mwh as unit_price,
        is_collared as is_floating_price,
        true as is_energy,
        contract_settlement_price_per_mwh,
        settlement_price_per_mwh,
        price_clause_applied as clause_applied
    from priced
    where is_delivered

    union all

    select
        {{ common | join(", ") }},
        'shape' as line,
        round(volume_mwh - produced_mwh, 12) as quantity,
        contract_settlement_price_per_mwh as unit_price,
        true as is_floating_price,
        true as is_energy,
        contract_settlement_price_per_mwh,
        settlement_price_per_mwh,
        price_clause_applied as clause_applied
    from priced
    where shape_risk = 'buyer'

    union all

    select
        {{ common | join(", ") }},
        'difference' as line,
        volume_mwh as quantity,
        direction * (contract_price_per_mwh - floating_price_per_mwh) as unit_price,
        true as is_floating_price,
        true as is_energy,
        contract_settlement_price_per_mwh,
        settlement_price_per_mwh,
        price_clause_applied as clause_applied
    from priced
    where not is_delivered

    union all

    select
        {{ common | join(", ") }},
        'certificates' as line,
        volume_mwh as quantity,
        certificate_price_per_mwh as unit_price,
        false as is_floating_price,
        false as is_energy,
        null as contract_settlement_price_per_mwh,
        null as settlement_price_per_mwh,
        -- What only the energy's price depends on is nothing to its certificates.
        case
            when clause_applied = 'no_volume' then 'no_volume'
            when volume_mwh is not null then 'none'
        end as clause_applied
    from priced
    where certificate_price_per_mwh is not null

    union all

    select
        {{ common | join(", ") }},
        'shortfall' as line,
        shortfall_mwh as quantity,
        -shortfall_price_per_mwh as unit_price,
        false as is_floating_price,
        false as is_energy,
        null as contract_settlement_price_per_mwh,
        null as settlement_price_per_mwh,
        case when shortfall_mwh is not null then 'none' end as clause_applied
    from year_ends

    union all

    -- Its energy is settled at the contract's price already: this is the step to the price of what is too much.
    select
        {{ common | join(", ") }},
        'excess' as line,
        excess_mwh as quantity,
        direction * (excess_price_per_mwh - mean_price_per_mwh) as unit_price,
        false as is_floating_price,
        false as is_energy,
        null as contract_settlement_price_per_mwh,
        null as settlement_price_per_mwh,
        case when excess_mwh is not null then 'none' end as clause_applied
    from year_ends

),

rounded as (

    select
        *,
        round(unit_price, 9) as rounded_unit_price
    from lines
    where {{ in_build_dates("utc_date") }}

)

select
    contract_id,
    site_id,
    contract_kind,
    line,
    interval_started_at,
    interval_ended_at,
    utc_date,
    local_date,
    local_month,
    terms_valid_from_at,
    metered_kwh,
    case when is_energy then quantity end as volume_mwh,
    quantity,
    'MWh' as quantity_unit,
    rounded_unit_price as unit_price,
    is_floating_price,
    contract_settlement_price_per_mwh,
    settlement_price_per_mwh,
    clause_applied,
    round({{ used_times("quantity", "rounded_unit_price") }}, 9) as contract_amount,
    contract_currency_code,
    false as is_shadow,
    quality
from rounded
