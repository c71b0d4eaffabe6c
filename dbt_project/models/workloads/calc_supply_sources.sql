{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{% set methods = {"location_based": "location", "market_based": "market", "hourly_matched": "hourly_matched"} %}

with

-- What each source gave in the interval, and what it cost and gave off in all.
sources as (

    select
        site_id,
        interval_started_at,
        'local' as layer,
        'generation' as source_kind,
        meter_id as source_id,
        energy_kwh as source_kwh,
        generation_cost as source_cost,
        {%- for name in methods %}
        upstream_g as {{ name }}_g,
        {%- endfor %}
        0 as contract_effect_cost
    from {{ ref("int_generation_meters") }}
    where {{ in_build_dates("utc_date") }}

    union all

    select
        site_id,
        interval_started_at,
        'local' as layer,
        'battery' as source_kind,
        battery_id as source_id,
        discharge_kwh as source_kwh,
        discharge_cost as source_cost,
        {%- for name, method in methods.items() %}
        discharge_{{ method }}_g as {{ name }}_g,
        {%- endfor %}
        0 as contract_effect_cost
    from {{ ref("fct_battery_ledger") }}
    where {{ in_build_dates("utc_date") }}

    union all

    select
        volumes.site_id,
        volumes.interval_started_at,
        'contracted' as layer,
        'contract' as source_kind,
        volumes.contract_id as source_id,
        volumes.volume_mwh * 1000 as source_kwh,
        cast(null as double) as source_cost,
        {%- for name in methods %}
        cast(null as double) as {{ name }}_g,
        {%- endfor %}
        effects.contract_effect_cost
    from {{ ref("int_contract_volumes") }} as volumes
    left join {{ ref("calc_contract_effects") }} as effects
        on
            volumes.contract_id = effects.contract_id
            and volumes.interval_started_at = effects.interval_started_at
            and {{ in_build_dates("effects.utc_date") }}
    where {{ in_build_dates("volumes.utc_date") }}

    union all

    select
        intervals.site_id,
        intervals.interval_started_at,
        'grid' as layer,
        'meter' as source_kind,
        meters.meter_id as source_id,
        readings.energy_kwh as source_kwh,
        cast(null as double) as source_cost,
        {%- for name in methods %}
        cast(null as double) as {{ name }}_g,
        {%- endfor %}
        0 as contract_effect_cost
    from {{ ref("int_site_intervals") }} as intervals
    inner join {{ source("raw", "meters") }} as meters
        on
            intervals.site_id = meters.site_id
            and meters.role = 'grid_import'
            and {{ is_valid_at("meters", "intervals.interval_started_at") }}
    left join {{ ref("int_meter_readings") }} as readings
        on
            meters.meter_id = readings.meter_id
            and meters.flow = readings.flow
            and intervals.interval_started_at = readings.interval_started_at
            and {{ in_build_dates("readings.utc_date") }}
    where {{ in_build_dates("intervals.utc_date") }}

),

-- Sources of a kind share what their kind served in proportion of what they gave, in equal parts where none gave any.
shares as (

    select
        *,
        case
            when {{ sum_if_all_known("source_kwh", over="kind") }} = 0 then 1 / count(*) over kind
            else source_kwh / {{ sum_if_all_known("source_kwh", over="kind") }}
        end as share_ratio
    from sources
    window kind as (partition by site_id, interval_started_at, source_kind)

),

served as (

    select
        shares.*,
        balance.interval_ended_at,
        balance.utc_date,
        prices.import_price_per_mwh,
        {%- for name, method in methods.items() %}
        grid.{{ method }}_g_per_kwh as grid_{{ name }}_g_per_kwh,
        {%- endfor %}
        shares.share_ratio * case shares.source_kind
            when 'generation' then balance.local_generation_kwh
            when 'battery' then balance.local_battery_kwh
            when 'contract' then balance.contracted_kwh
            when 'meter' then balance.grid_uncontracted_kwh
        end as energy_kwh,
        case shares.source_kind
            when 'generation' then {{ to_load_ratio("generation") }}
            when 'battery' then {{ to_load_ratio("battery") }}
        end as to_load_ratio,
        intervals.currency_code
    from shares
    inner join {{ ref("int_site_intervals") }} as intervals
        on
            shares.site_id = intervals.site_id
            and shares.interval_started_at = intervals.interval_started_at
            and {{ in_build_dates("intervals.utc_date") }}
    inner join {{ ref("fct_energy_balance") }} as balance
        on
            shares.site_id = balance.site_id
            and shares.interval_started_at = balance.interval_started_at
            and {{ in_build_dates("balance.utc_date") }}
    left join {{ ref("int_supply_prices") }} as prices
        on
            shares.site_id = prices.site_id
            and shares.interval_started_at = prices.interval_started_at
            and {{ in_build_dates("prices.utc_date") }}
    left join {{ ref("int_grid_carbon") }} as grid
        on
            shares.site_id = grid.site_id
            and shares.interval_started_at = grid.interval_started_at
            and {{ in_build_dates("grid.utc_date") }}

)

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    layer,
    source_kind,
    source_id,
    {{ round_kwh("energy_kwh") }} as energy_kwh,
    round(
        case
            when layer = 'local' then {{ used_times("to_load_ratio", "source_cost") }}
            else {{ used_times(kwh_to_mwh("energy_kwh"), "import_price_per_mwh") }}
        end, 9
    ) as market_valued_energy_cost,
    contract_effect_cost,
    {%- for name in methods %}
    round(
        case
            when layer = 'local' then {{ used_times("to_load_ratio", name ~ "_g") }}
            else {{ used_times("energy_kwh", "grid_" ~ name ~ "_g_per_kwh") }}
        end / 1000, 9
    ) as {{ name }}_kg,
    {%- endfor %}
    currency_code
from served
