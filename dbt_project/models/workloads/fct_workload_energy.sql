{{ config(materialized = "incremental", meta = {"is_rewritten": true}) }}

{% set amounts = [
    "energy_kwh",
    "local_kwh",
    "contracted_kwh",
    "grid_uncontracted_kwh",
    "market_valued_energy_cost",
    "contract_effect_cost",
    "location_based_kg",
    "market_based_kg",
    "hourly_matched_kg",
] %}

with

-- An amount of a day is given where it is known for all intervals of which the energy is: a sum over fewer would
-- not belong to the energy beside it.
intervals as (

    select
        *,
        -- Any workload may have held GPUs in the intervals of which that is not known.
        case
            when workload_id not in ('overhead', 'unknown')
                then count(*) filter (where workload_id = 'unknown') over (partition by site_id, local_date)
            else 0
        end as unknown_interval_count
    from {{ ref("calc_workload_costs") }}
    where
        {{ in_build_dates("local_date", days_before=1) }}
        and {{ in_build_dates("utc_date", days_before=3) }}

),

days as (

    select
        site_id,
        workload_id,
        local_date,
        {{ exact_sum("allocated_gpu_hours") }} as allocated_gpu_hours,
        coalesce({{ exact_sum("allocated_gpu_hours", "energy_kwh is not null") }}, 0) as metered_gpu_hours,
        {{ exact_sum("used_gpu_hours") }} as used_gpu_hours,
        {{ exact_sum("idle_gpu_hours") }} as idle_gpu_hours,
        {{ exact_sum("unknown_gpu_hours") }} as unknown_gpu_hours,
        {{ exact_sum("measured_gpu_hours") }}
        / nullif({{ exact_sum("allocated_gpu_hours") }}, 0) as telemetry_coverage_ratio,
        {%- for amount in amounts %}
        {{ sum_if_all_known(amount, of="count(energy_kwh)") }} as {{ amount }},
        {%- endfor %}
        cast(null as double) as cloud_cost,
        coalesce(bool_or(is_pue_assumed) filter (where energy_kwh is not null), false) as is_pue_assumed,
        count(energy_kwh) / (count(*) + any_value(unknown_interval_count)) as coverage_ratio
    from intervals
    group by site_id, workload_id, local_date

    union all

    select
        hours.site_id,
        hours.workload_id,
        cast(hours.hour_started_at at time zone sites.time_zone as date) as local_date,
        round({{ sum_if_all_known("hours.allocated_gpu_hours") }}, 9) as allocated_gpu_hours,
        0 as metered_gpu_hours,
        cast(null as double) as used_gpu_hours,
        round({{ sum_if_all_known("hours.idle_gpu_hours") }}, 9) as idle_gpu_hours,
        0 as unknown_gpu_hours,
        cast(null as double) as telemetry_coverage_ratio,
        {%- for amount in amounts %}
        cast(null as double) as {{ amount }},
        {%- endfor %}
        round({{ sum_if_all_known("hours.cloud_cost") }}, 9) as cloud_cost,
        false as is_pue_assumed,
        0 as coverage_ratio
    from {{ ref("int_cloud_workload_hours") }} as hours
    inner join {{ source("raw", "sites") }} as sites
        on
            hours.site_id = sites.site_id
            and {{ is_valid_at("sites", "hours.hour_started_at") }}
    where hours.workload_id <> 'unallocated'
    group by all
    {# A row without coverage is one of losses alone, and a cloud's days are all summed up anew. #}
    {{ union_kept(
        in_build_dates("local_date", days_before=1),
        "criticality, lost_gpu_hours, currency_code",
        "coverage_ratio is not null and site_id not in (select site_id from " ~ ref("int_cloud_workload_hours") ~ ")"
    ) }}

),

losses as (

    select
        losses.site_id,
        losses.workload_id,
        cast(losses.interval_started_at at time zone sites.time_zone as date) as local_date,
        {{ sum_if_all_known("losses.lost_gpu_hours") }} as lost_gpu_hours
    from {{ ref("calc_incident_losses") }} as losses
    inner join {{ source("raw", "sites") }} as sites
        on
            losses.site_id = sites.site_id
            and {{ is_valid_at("sites", "losses.interval_started_at") }}
    group by all

),

-- A workload that was shed for a whole day has a row of that day too.
loaded as (

    select
        days.* exclude (site_id, workload_id, local_date, allocated_gpu_hours, unknown_gpu_hours),
        case when days.site_id is null then 0 else days.allocated_gpu_hours end as allocated_gpu_hours,
        coalesce(days.unknown_gpu_hours, 0) as unknown_gpu_hours,
        coalesce(days.site_id, losses.site_id) as site_id,
        coalesce(days.workload_id, losses.workload_id) as workload_id,
        coalesce(days.local_date, losses.local_date) as local_date,
        case when losses.site_id is null then 0 else losses.lost_gpu_hours end as lost_gpu_hours
    from days
    full join losses
        on
            days.site_id = losses.site_id
            and days.workload_id = losses.workload_id
            and days.local_date = losses.local_date

)

select
    loaded.workload_id,
    loaded.site_id,
    loaded.local_date,
    workloads.criticality,
    loaded.allocated_gpu_hours,
    coalesce(loaded.metered_gpu_hours, 0) as metered_gpu_hours,
    loaded.used_gpu_hours,
    loaded.idle_gpu_hours,
    loaded.unknown_gpu_hours,
    loaded.lost_gpu_hours,
    loaded.telemetry_coverage_ratio,
    loaded.energy_kwh,
    loaded.local_kwh,
    loaded.contracted_kwh,
    loaded.grid_uncontracted_kwh,
    loaded.market_valued_energy_cost,
    loaded.contract_effect_cost,
    loaded.cloud_cost,
    loaded.location_based_kg,
    loaded.market_based_kg,
    loaded.hourly_matched_kg,
    coalesce(loaded.is_pue_assumed, false) as is_pue_assumed,
    loaded.coverage_ratio,
    organization.reporting_currency as currency_code
from loaded
cross join {{ source("raw", "organization") }} as organization
left join {{ source("raw", "workloads") }} as workloads on loaded.workload_id = workloads.workload_id
