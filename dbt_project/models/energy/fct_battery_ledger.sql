{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{#
    What the stock carries with it, and the factor per stored kWh at which an opening stock is valued. `energy_kwh`
    is the energy charged for what is stored: against it the carbon-free share is kept, so that losses, which
    raise cost and carbon per kWh, leave that share as it is.
#}
{% set measures = {
    "cost": kwh_to_mwh("import_price_per_mwh"),
    "location_g": "location_g_per_kwh",
    "market_g": "market_g_per_kwh",
    "hourly_matched_g": "hourly_matched_g_per_kwh",
    "energy_kwh": "1 / charge_efficiency_ratio",
    "carbon_free_kwh": "carbon_free_ratio / charge_efficiency_ratio",
} %}

with recursive

steps as (

    select
        *,
        charge_kwh as charge_energy_kwh,
        row_number() over (partition by battery_id order by interval_started_at) as step,
        -- An interval that was not fully metered moves no value: the stock carries it on unchanged.
        case
            when discharge_kwh = 0 then 0
            else least(
                1,
                coalesce(
                    discharge_kwh / discharge_efficiency_ratio
                    / nullif(opening_stored_kwh + charge_kwh * charge_efficiency_ratio, 0),
                    1
                )
            )
        end as taken_ratio,
        coalesce(charge_kwh * charge_efficiency_ratio / nullif(opening_stored_kwh, 0), 0) as added_ratio,
        charge_kwh is not null and discharge_kwh is not null and opening_stored_kwh is not null as is_metered
    from {{ ref("calc_battery_charges") }}
    where {{ in_build_dates("utc_date") }}

),

-- The first stock of a battery is valued as if it had just been charged from the grid.
first_stocks as (

    select
        {% for measure, factor in measures.items() -%}
        coalesce(
            arg_min(opening_stored_kwh, interval_started_at) filter (where opening_stored_kwh is not null)
            * arg_min({{ factor }}, interval_started_at) filter (where {{ factor }} is not null),
            0
        ) as stored_{{ measure }},
        {% endfor -%}
        battery_id
    from steps
    group by battery_id

),

{% if is_incremental() -%}
-- What the last interval before the rebuilt days left in the battery.
kept_stocks as (

    select
        {% for measure in measures -%}
        stored_{{ measure }},
        {% endfor -%}
        battery_id
    from {{ this }}
    where not ({{ in_build_dates("utc_date") }})
    qualify row_number() over (partition by battery_id order by interval_started_at desc) = 1

),

{% endif -%}
start_stocks as (

    select *
    from first_stocks
    {% if is_incremental() -%}
    where battery_id not in (select kept_stocks.battery_id from kept_stocks)

    union all

    select *
    from kept_stocks
    {% endif %}

),

-- A charge without price or factor is taken in at the average of the stock.
ledger as (

    select
        {% for measure in measures -%}
        stored_{{ measure }},
        cast(0 as double) as taken_{{ measure }},
        {% endfor -%}
        battery_id,
        cast(0 as bigint) as step
    from start_stocks

    union all

    select
        {% for measure in measures -%}
        {% set total -%}
            (
                ledger.stored_{{ measure }}
                + coalesce(steps.charge_{{ measure }}, ledger.stored_{{ measure }} * steps.added_ratio)
            )
        {%- endset -%}
        case
            when steps.is_metered then {{ total }} * (1 - steps.taken_ratio)
            else ledger.stored_{{ measure }}
        end as stored_{{ measure }},
        case when steps.is_metered then {{ total }} * steps.taken_ratio end as taken_{{ measure }},
        {% endfor -%}
        steps.battery_id,
        steps.step
    from ledger
    inner join steps
        on
            ledger.battery_id = steps.battery_id
            and ledger.step + 1 = steps.step

)

select
    steps.battery_id,
    steps.site_id,
    steps.interval_started_at,
    steps.interval_ended_at,
    steps.utc_date,
    steps.capacity_kwh,
    steps.opening_stored_kwh,
    steps.charge_kwh,
    steps.charge_from_generation_kwh,
    steps.charge_from_grid_kwh,
    steps.discharge_kwh,
    steps.closing_stored_kwh,
    {{ round_kwh(
        "steps.opening_stored_kwh + steps.charge_kwh - steps.discharge_kwh - steps.closing_stored_kwh"
    ) }} as loss_kwh,
    {% for measure in ["cost", "location_g", "market_g", "hourly_matched_g"] -%}
    steps.charge_{{ measure }},
    ledger.taken_{{ measure }} as discharge_{{ measure }},
    ledger.stored_{{ measure }},
    {% endfor -%}
    steps.charge_carbon_free_kwh,
    case
        when steps.discharge_kwh = 0 then 0
        else steps.discharge_kwh * ledger.taken_carbon_free_kwh / nullif(ledger.taken_energy_kwh, 0)
    end as discharge_carbon_free_kwh,
    ledger.stored_carbon_free_kwh,
    ledger.stored_energy_kwh,
    ledger.stored_cost / nullif({{ kwh_to_mwh("steps.closing_stored_kwh") }}, 0) as average_cost_per_mwh,
    {% for method in ["location", "market", "hourly_matched"] -%}
    ledger.stored_{{ method }}_g / nullif(steps.closing_stored_kwh, 0) as average_{{ method }}_g_per_kwh,
    {% endfor -%}
    steps.is_metered,
    steps.currency_code
from steps
inner join ledger
    on
        steps.battery_id = ledger.battery_id
        and steps.step = ledger.step
