{{ config(materialized = "incremental", meta = {"day": "local_date", "days_before": 1}) }}

{% set amounts = [
    "energy_kwh",
    "market_valued_energy_cost",
    "contract_effect_cost",
    "location_based_kg",
    "market_based_kg",
    "hourly_matched_kg",
] %}

with

-- Work takes part in every source in proportion of its energy, losses between the grid and the facility meter included.
intervals as (

    select
        work.workload_id,
        work.site_id,
        work.local_date,
        sources.layer,
        sources.source_kind,
        sources.source_id,
        work.energy_kwh as work_kwh,
        round(work.energy_kwh * sources.energy_kwh / nullif(balance.consumption_kwh, 0), 6) as energy_kwh,
        {%- for amount in amounts[1:] %}
        round(work.energy_kwh * sources.{{ amount }} / nullif(work.site_kwh, 0), 6) as {{ amount }},
        {%- endfor %}
        sources.currency_code
    from {{ ref("int_workload_intervals") }} as work
    inner join {{ ref("fct_energy_balance") }} as balance
        on
            work.site_id = balance.site_id
            and work.interval_started_at = balance.interval_started_at
    inner join {{ ref("calc_supply_sources") }} as sources
        on
            work.site_id = sources.site_id
            and work.interval_started_at = sources.interval_started_at
    where
        {{ in_build_dates("work.local_date", days_before=1) }}
        and {{ in_build_dates("balance.utc_date", days_before=3) }}
        and {{ in_build_dates("sources.utc_date", days_before=3) }}

)

-- An amount of a day is given where it is known for all intervals of which the work's energy is.
select
    workload_id,
    site_id,
    local_date,
    layer,
    source_kind,
    source_id,
    {%- for amount in amounts %}
    {{ sum_if_all_known(amount, of="count(work_kwh)") }} as {{ amount }},
    {%- endfor %}
    count(energy_kwh) / count(*) as coverage_ratio,
    currency_code
from intervals
group by workload_id, site_id, local_date, layer, source_kind, source_id, currency_code
