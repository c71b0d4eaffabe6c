{{ config(materialized = "incremental", meta = {"is_rewritten": true}) }}

with

cloud_hours as (

    select
        hours.workload_id,
        hours.site_id,
        {{ iso_week("hours.hour_started_at at time zone organization.time_zone") }} as week,
        hours.allocated_gpu_hours,
        hours.cloud_cost
    from {{ ref("int_cloud_workload_hours") }} as hours
    cross join {{ source("raw", "organization") }} as organization
    where hours.workload_id <> 'unallocated'

),

-- Any workload may have held GPUs in the intervals of which that is not known.
unknown_weeks as (

    select
        site_id,
        week,
        count(*) as interval_count
    from {{ ref("calc_workload_costs") }}
    where
        workload_id = 'unknown'
        and {{ in_build_weeks() }}
        and {{ in_build_dates("utc_date", days_before=10) }}
    group by site_id, week

),

segments as (

    select
        workload_id,
        site_id,
        week,
        allocated_gpu_hours,
        used_gpu_hours,
        energy_kwh,
        market_valued_energy_cost,
        cast(null as double) as cloud_cost,
        location_based_kg,
        false as is_cloud
    from {{ ref("calc_workload_costs") }}
    where
        {{ in_build_weeks() }}
        and {{ in_build_dates("utc_date", days_before=10) }}

    union all

    select
        workload_id,
        site_id,
        week,
        allocated_gpu_hours,
        cast(null as double) as used_gpu_hours,
        cast(null as double) as energy_kwh,
        cast(null as double) as market_valued_energy_cost,
        cloud_cost,
        cast(null as double) as location_based_kg,
        true as is_cloud
    from cloud_hours

),

-- An amount of a week is given where it is known for all intervals of which the energy is.
work as (

    select
        segments.workload_id,
        segments.site_id,
        segments.week,
        case
            when not bool_or(segments.is_cloud and segments.allocated_gpu_hours is null)
                then coalesce({{ exact_sum("segments.allocated_gpu_hours") }}, 0)
        end as allocated_gpu_hours,
        {{ exact_sum("used_gpu_hours") }} as used_gpu_hours,
        {{ exact_sum("energy_kwh") }} as energy_kwh,
        {{ sum_if_all_known("market_valued_energy_cost", of="count(energy_kwh)") }} as market_valued_energy_cost,
        {{ ratio_of_sums("market_valued_energy_cost", "allocated_gpu_hours") }}
            as market_valued_energy_cost_per_gpu_hour,
        {{ sum_if_all_known("cloud_cost", condition="is_cloud") }} as cloud_cost,
        {{ sum_if_all_known("location_based_kg", of="count(energy_kwh)") }} as location_based_kg,
        {{ ratio_of_sums("location_based_kg", "allocated_gpu_hours") }} * 1000 as location_based_g_per_gpu_hour,
        count(market_valued_energy_cost) / nullif(
            count(allocated_gpu_hours) + coalesce(any_value(unknown_weeks.interval_count), 0), 0
        ) as coverage_ratio
    from segments
    left join unknown_weeks
        on
            segments.site_id = unknown_weeks.site_id
            and segments.week = unknown_weeks.week
    group by segments.workload_id, segments.site_id, segments.week
    {# A row without any of these is one of losses alone, and a cloud's weeks are all summed up anew. #}
    {{ union_kept(
        in_build_weeks(),
        "venue_kind, criticality, max_deferral_hours, lost_gpu_hours, placement_decision_id,"
        ~ " expected_energy_cost_per_gpu_hour, drift_cost_per_gpu_hour, drift_ratio, currency_code",
        "coalesce(coverage_ratio, energy_kwh, used_gpu_hours, location_based_kg) is not null"
        ~ " and site_id not in (select site_id from cloud_hours)"
    ) }}

),

losses as (

    select
        losses.workload_id,
        losses.site_id,
        {{ iso_week("losses.interval_started_at at time zone organization.time_zone") }} as week,
        {{ sum_if_all_known("losses.lost_gpu_hours") }} as lost_gpu_hours
    from {{ ref("calc_incident_losses") }} as losses
    cross join {{ source("raw", "organization") }} as organization
    group by all

),

-- A workload that was shed for a whole week has a row of that week too.
weeks as (

    select
        work.* exclude (workload_id, site_id, week, allocated_gpu_hours),
        coalesce(work.workload_id, losses.workload_id) as workload_id,
        coalesce(work.site_id, losses.site_id) as site_id,
        coalesce(work.week, losses.week) as week,
        case when work.site_id is null then 0 else work.allocated_gpu_hours end as allocated_gpu_hours,
        case when losses.site_id is null then 0 else losses.lost_gpu_hours end as lost_gpu_hours
    from work
    full join losses
        on
            work.workload_id = losses.workload_id
            and work.site_id = losses.site_id
            and work.week = losses.week

),

-- The decision that placed the workload here and states what it expected; it counts from its first whole week.
placements as (

    select
        weeks.workload_id,
        weeks.site_id,
        weeks.week,
        decisions.decision_id,
        decisions.expected_energy_cost_per_gpu_hour,
        row_number() over (
            partition by weeks.workload_id, weeks.site_id, weeks.week
            order by decisions.effective_from desc, decisions.decided_on desc, decisions.decision_id desc
        ) as place
    from weeks
    inner join {{ source("raw", "decisions") }} as decisions
        on
            weeks.workload_id = decisions.workload_id
            and weeks.site_id = decisions.to_site_id
            and strptime(weeks.week || '-1', '%G-W%V-%u') >= decisions.effective_from
    where decisions.expected_energy_cost_per_gpu_hour is not null

),

venue_kinds as (

    select distinct
        site_id,
        venue_kind
    from {{ source("raw", "sites") }}

)

select
    weeks.workload_id,
    weeks.site_id,
    weeks.week,
    venue_kinds.venue_kind,
    workloads.criticality,
    workloads.max_deferral_hours,
    weeks.allocated_gpu_hours,
    weeks.used_gpu_hours,
    weeks.lost_gpu_hours,
    weeks.energy_kwh,
    weeks.market_valued_energy_cost,
    weeks.market_valued_energy_cost_per_gpu_hour,
    weeks.cloud_cost,
    weeks.location_based_kg,
    weeks.location_based_g_per_gpu_hour,
    placements.decision_id as placement_decision_id,
    placements.expected_energy_cost_per_gpu_hour,
    weeks.market_valued_energy_cost_per_gpu_hour - placements.expected_energy_cost_per_gpu_hour
        as drift_cost_per_gpu_hour,
    (weeks.market_valued_energy_cost_per_gpu_hour - placements.expected_energy_cost_per_gpu_hour)
    / nullif(placements.expected_energy_cost_per_gpu_hour, 0) as drift_ratio,
    weeks.coverage_ratio,
    organization.reporting_currency as currency_code
from weeks
inner join {{ source("raw", "workloads") }} as workloads on weeks.workload_id = workloads.workload_id
inner join venue_kinds on weeks.site_id = venue_kinds.site_id
left join placements
    on
        weeks.workload_id = placements.workload_id
        and weeks.site_id = placements.site_id
        and weeks.week = placements.week
        and placements.place = 1
cross join {{ source("raw", "organization") }} as organization
