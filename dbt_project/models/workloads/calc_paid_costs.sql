{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{# Components of the all-in cost; which one a contract's line belongs to, its kind says. #}
{% set components = [
    "tariff_energy", "network", "levies", "demand", "capacity", "export", "storage", "allocation", "ppa"
] %}

with

-- A cloud's commitments are in its bill, from which its cost is taken as a whole.
settlements as (

    select
        settlements.site_id,
        settlements.interval_started_at,
        settlements.amount,
        kind_lines.cost_component
    from {{ ref("fct_contract_settlements") }} as settlements
    inner join {{ source("raw", "contract_lines") }} as kind_lines
        on
            settlements.contract_kind = kind_lines.contract_kind
            and settlements.line = kind_lines.line
            and kind_lines.cost_component is not null
    where
        not settlements.is_shadow
        and {{ in_build_dates("settlements.utc_date") }}

),

-- What no contract charges costs nothing; what a contract charges and cannot be settled yet is not known.
paid as (

    select
        site_id,
        interval_started_at,
        {%- for component in components %}
        {{ sum_if_all_known("amount", condition="cost_component = '" ~ component ~ "'", empty=0) }}
            as {{ component }}_cost,
        {%- endfor %}
        {{ sum_if_all_known("amount") }} as paid_cost
    from settlements
    group by site_id, interval_started_at

)

select
    intervals.site_id,
    intervals.interval_started_at,
    intervals.interval_ended_at,
    intervals.utc_date,
    intervals.local_date,
    {%- for component in components %}
    case when paid.site_id is null then 0 else paid.{{ component }}_cost end as {{ component }}_cost,
    {%- endfor %}
    case when paid.site_id is null then 0 else paid.paid_cost end as paid_cost,
    -- What the grid charged for energy that went into the batteries is not a cost of this interval's work.
    case
        when balance.grid_to_charge_kwh = 0 then 0
        when balance.grid_to_charge_kwh >= balance.grid_import_kwh then 1
        else balance.grid_to_charge_kwh / balance.grid_import_kwh
    end as stored_ratio,
    case when discharges.site_id is null then 0 else discharges.discharge_cost end as discharge_cost,
    intervals.currency_code
from {{ ref("int_site_intervals") }} as intervals
left join paid
    on
        intervals.site_id = paid.site_id
        and intervals.interval_started_at = paid.interval_started_at
left join {{ ref("fct_energy_balance") }} as balance
    on
        intervals.site_id = balance.site_id
        and intervals.interval_started_at = balance.interval_started_at
        and {{ in_build_dates("balance.utc_date") }}
left join {{ ref("calc_site_discharges") }} as discharges
    on
        intervals.site_id = discharges.site_id
        and intervals.interval_started_at = discharges.interval_started_at
        and {{ in_build_dates("discharges.utc_date") }}
where {{ in_build_dates("intervals.utc_date") }}
