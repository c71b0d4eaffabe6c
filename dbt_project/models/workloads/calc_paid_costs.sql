{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

{# Component of the all-in cost that a contract's line belongs to. #}
{% set components = {
    "tariff_energy": "contract_kind = 'supply_tariff' and line = 'energy'",
    "network": "line = 'network'",
    "levies": "line = 'levies'",
    "demand": "line = 'demand'",
    "capacity": "line = 'capacity'",
    "export": "line = 'export'",
    "storage": "contract_kind = 'battery_tolling'",
    "allocation": "contract_kind = 'hpc_allocation'",
    "ppa": "contract_kind like 'ppa_%' or contract_kind in ('vppa_cfd', 'collar') or line = 'contract_credit'",
} %}

with

-- A cloud's commitments are in its bill, from which its cost is taken as a whole.
settlements as (

    select *
    from {{ ref("fct_contract_settlements") }}
    where
        not is_shadow
        and contract_kind <> 'cloud_commitment'
        and {{ in_build_dates("utc_date") }}

),

-- What no contract charges costs nothing; what a contract charges and cannot be settled yet is not known.
paid as (

    select
        site_id,
        interval_started_at,
        {%- for component, is_of_component in components.items() %}
        {{ sum_if_all_known("amount", condition=is_of_component, empty=0) }} as {{ component }}_cost,
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
left join {{ ref("calc_site_discharges") }} as discharges
    on
        intervals.site_id = discharges.site_id
        and intervals.interval_started_at = discharges.interval_started_at
where {{ in_build_dates("intervals.utc_date") }}
