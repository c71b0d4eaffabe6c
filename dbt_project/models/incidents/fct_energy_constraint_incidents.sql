{# The primary cause is the first of these that an incident holds: what acts from outside before what follows. #}
{% set causes = [
    "grid_outage",
    "curtailment_order",
    "storage_unavailable",
    "storage_depleted",
    "power_capping",
    "price_stop",
    "connection_limit",
    "supply_shortfall",
    "workload_shed",
] %}

with

incidents as (

    select *
    from {{ ref("calc_incident_spans") }}

),

signals as (

    select
        incidents.incident_id,
        signals.signal,
        list_position({{ causes }}, signals.signal) as precedence,
        count(*) as interval_count,
        arg_min(signals.evidence, signals.interval_started_at) as evidence
    from {{ ref("calc_energy_constraint_signals") }} as signals
    inner join incidents
        on
            signals.site_id = incidents.site_id
            and signals.interval_started_at >= incidents.started_at
            and signals.interval_started_at < incidents.ended_at
    group by incidents.incident_id, signals.signal

),

causes as (

    select
        incident_id,
        arg_min(signal, precedence) as primary_cause,
        string_agg(signal, ', ' order by precedence) as signals,
        string_agg(
            signal || ': ' || evidence || ' (' || interval_count * 15 || ' minutes)', '; '
            order by precedence
        ) as evidence
    from signals
    group by incident_id

),

incident_intervals as (

    select
        incidents.incident_id,
        intervals.site_id,
        intervals.interval_started_at,
        intervals.local_hour,
        incidents.started_at,
        -- greatest() passes over nulls: an unknown shortfall must not become none.
        case
            when supply.effective_it_mw is not null and supply.committed_it_mw is not null
                then greatest(supply.committed_it_mw - supply.effective_it_mw, 0)
        end as shortfall_mw,
        balance.grid_import_kwh,
        prices.import_price_per_mwh
    from incidents
    inner join {{ ref("int_site_intervals") }} as intervals
        on
            incidents.site_id = intervals.site_id
            and incidents.started_at <= intervals.interval_started_at
            and incidents.ended_at > intervals.interval_started_at
    left join {{ ref("fct_supply_capacity") }} as supply
        on
            intervals.site_id = supply.site_id
            and intervals.interval_started_at = supply.interval_started_at
    left join {{ ref("fct_energy_balance") }} as balance
        on
            intervals.site_id = balance.site_id
            and intervals.interval_started_at = balance.interval_started_at
    left join {{ ref("int_supply_prices") }} as prices
        on
            intervals.site_id = prices.site_id
            and intervals.interval_started_at = prices.interval_started_at

),

-- What the same local hours cost in the seven days before the incident.
usual_prices as (

    select
        incidents.incident_id,
        intervals.local_hour,
        round({{ mean_of("prices.import_price_per_mwh") }}, 6) as import_price_per_mwh
    from incidents
    inner join {{ ref("int_site_intervals") }} as intervals
        on
            incidents.site_id = intervals.site_id
            and incidents.started_at - interval 7 days <= intervals.interval_started_at
            and incidents.started_at > intervals.interval_started_at
    inner join {{ ref("int_supply_prices") }} as prices
        on
            intervals.site_id = prices.site_id
            and intervals.interval_started_at = prices.interval_started_at
    group by incidents.incident_id, intervals.local_hour

),

supply_effects as (

    select
        incident_intervals.incident_id,
        max(incident_intervals.shortfall_mw) as greatest_shortfall_mw,
        {{ interval_mw_to_mwh(sum_if_all_known("incident_intervals.shortfall_mw")) }} as unserved_mwh,
        {{ sum_if_all_known(
            kwh_to_mwh("incident_intervals.grid_import_kwh")
            ~ " * (incident_intervals.import_price_per_mwh - usual_prices.import_price_per_mwh)"
        ) }} as price_difference_cost
    from incident_intervals
    left join usual_prices
        on
            incident_intervals.incident_id = usual_prices.incident_id
            and incident_intervals.local_hour = usual_prices.local_hour
    group by incident_intervals.incident_id

),

losses as (

    select
        incident_id,
        {%- for criticality in ["sensitive", "tolerant"] %}
        {{ sum_if_all_known("lost_gpu_hours", condition="criticality = '" ~ criticality ~ "'", empty=0) }}
            as lost_gpu_hours_{{ criticality }},
        {%- endfor %}
        {{ exact_sum("deferred_gpu_hours") }} as deferred_gpu_hours,
        {{ sum_if_all_known("lost_value") }} as lost_value,
        {{ exact_sum("interrupted_gpu_count") }} as interrupted_gpu_count
    from {{ ref("calc_incident_losses") }}
    group by incident_id

),

deferrals as (

    select
        incident_id,
        -1 * {{ sum_if_all_known("saved_cost") }} as deferral_cost
    from {{ ref("calc_deferral_movements") }}
    where kind = 'caught_up'
    group by incident_id

),

priced as (

    select
        incidents.*,
        causes.primary_cause,
        causes.signals,
        causes.evidence,
        supply_effects.greatest_shortfall_mw,
        supply_effects.unserved_mwh,
        {%- for loss in ["lost_gpu_hours_sensitive", "lost_gpu_hours_tolerant", "lost_value"] %}
        case when losses.incident_id is null then 0 else losses.{{ loss }} end as {{ loss }},
        {%- endfor %}
        coalesce(losses.deferred_gpu_hours, 0) as deferred_gpu_hours,
        coalesce(losses.interrupted_gpu_count, 0) as interrupted_gpu_count,
        case
            when supply_effects.price_difference_cost is not null
                then round(greatest(supply_effects.price_difference_cost, 0), 6)
        end as replacement_energy_cost,
        case when demand_charges.incident_id is null then 0 else demand_charges.demand_charge_cost end
            as demand_charge_cost,
        case when deferrals.incident_id is null then 0 else round(deferrals.deferral_cost, 6) end as deferral_cost,
        -- No kind of contract has a penalty for one.
        0 as penalty_cost
    from incidents
    inner join causes on incidents.incident_id = causes.incident_id
    left join supply_effects on incidents.incident_id = supply_effects.incident_id
    left join losses on incidents.incident_id = losses.incident_id
    left join deferrals on incidents.incident_id = deferrals.incident_id
    left join {{ ref("calc_incident_demand_charges") }} as demand_charges
        on incidents.incident_id = demand_charges.incident_id

)

select
    priced.incident_id,
    priced.site_id,
    priced.primary_cause,
    case when priced.primary_cause like 'storage_%' then 'local' else 'grid' end as layer,
    priced.started_at,
    priced.ended_at,
    cast(priced.started_at as date) as utc_date,
    intervals.local_date,
    intervals.week,
    date_diff('minute', priced.started_at, priced.ended_at) as duration_minutes,
    priced.signals,
    priced.greatest_shortfall_mw,
    priced.unserved_mwh,
    priced.lost_gpu_hours_sensitive,
    priced.lost_gpu_hours_tolerant,
    priced.deferred_gpu_hours,
    priced.interrupted_gpu_count,
    priced.lost_value,
    priced.replacement_energy_cost,
    priced.demand_charge_cost,
    priced.deferral_cost,
    priced.penalty_cost,
    round(
        priced.lost_value + priced.replacement_energy_cost + priced.demand_charge_cost + priced.deferral_cost
        + priced.penalty_cost, 6
    ) as incident_cost,
    intervals.currency_code,
    case
        when priced.lost_gpu_hours_sensitive > 0 then 1
        when priced.lost_gpu_hours_sensitive is null then null
        when priced.lost_gpu_hours_tolerant > 0 or priced.deferred_gpu_hours > 0 then 2
        when priced.lost_gpu_hours_tolerant = 0 then 3
    end as severity,
    priced.is_ongoing,
    priced.evidence
from priced
inner join {{ ref("int_site_intervals") }} as intervals
    on
        priced.site_id = intervals.site_id
        and priced.started_at = intervals.interval_started_at
