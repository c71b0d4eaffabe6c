-- Returns the battery intervals whose stored cost or carbon is not that of the interval before, plus what came in, less
-- what went out. An interval that was not metered carries the value on; one whose charge could not be valued is
-- taken in at the average, and not compared.
-- Tolerance: one part in 1e9 of the value, the rounding of floats.
{% set measures = ["cost", "location_g", "market_g", "hourly_matched_g"] %}

with

steps as (

    select
        {% for measure in measures -%}
        stored_{{ measure }},
        lag(stored_{{ measure }}) over (partition by battery_id order by interval_started_at)
        + case when is_metered then charge_{{ measure }} - discharge_{{ measure }} else 0 end
            as expected_{{ measure }},
        {% endfor -%}
        battery_id,
        interval_started_at
    from {{ ref("fct_battery_ledger") }}

)

select *
from steps
where
    {% for measure in measures -%}
    abs(stored_{{ measure }} - expected_{{ measure }})
    > 1e-9 * greatest(1, abs(stored_{{ measure }}), abs(expected_{{ measure }}))
    or {% endfor -%}
    false
