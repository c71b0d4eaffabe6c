{# The hours put off, those of them that were caught up as they were due to run (the first), and as they ran. #}
{% set spans = [
    ("deferred", "deferred_from_at", "deferred_s"),
    ("original", "deferred_from_at", "caught_up_s"),
    ("caught_up", "resumed_at", "caught_up_s"),
] %}

with

-- Where the connection had nothing left, the price of what is taken from it stands for the marginal one.
intervals as (

    select
        marginal.site_id,
        marginal.interval_started_at,
        coalesce(
            marginal.marginal_energy_cost_per_gpu_hour + marginal.network_and_levies_cost_per_gpu_hour,
            {{ kwh_to_mwh("marginal.incremental_kwh_per_gpu_hour * marginal.applied_pue_ratio") }}
            * prices.import_price_per_mwh
        ) as cost_per_gpu_hour,
        marginal.marginal_location_based_g_per_gpu_hour as g_per_gpu_hour,
        marginal.is_incremental_power_measured
    from {{ ref("fct_marginal_cost") }} as marginal
    left join {{ ref("int_supply_prices") }} as prices
        on
            marginal.site_id = prices.site_id
            and marginal.interval_started_at = prices.interval_started_at
    where marginal.venue_kind <> 'public_cloud'

),

spans as (

    {% for kind, started_at, duration_s in spans %}
    select
        incident_id,
        site_id,
        workload_id,
        job_id,
        '{{ kind }}' as kind,
        gpu_count,
        deferred_s,
        lost_s,
        {{ started_at }} as interval_started_at,
        {{ started_at }} + to_seconds({{ duration_s }}) as interval_ended_at
    from {{ ref("calc_deferred_jobs") }}
    where {{ duration_s }} > 0
    {{ "union all" if not loop.last }}
    {% endfor %}

),

slices as ({{ cut_to_intervals("spans") }}),

priced as (

    select
        slices.incident_id,
        slices.site_id,
        slices.workload_id,
        slices.job_id,
        slices.kind,
        slices.slice_started_at,
        slices.gpu_count * slices.overlap_s / 3600 as gpu_hours,
        case
            when slices.kind = 'deferred'
                then slices.gpu_count * slices.overlap_s / 3600 * slices.lost_s / slices.deferred_s
        end as lost_gpu_hours,
        intervals.cost_per_gpu_hour,
        intervals.g_per_gpu_hour,
        intervals.is_incremental_power_measured
    from slices
    left join intervals
        on
            slices.site_id = intervals.site_id
            and slices.slice_started_at = intervals.interval_started_at

),

-- What a GPU-hour of each job would have needed when it was due to run, null where one interval is not known.
originals as (

    select
        incident_id,
        site_id,
        job_id,
        {{ if_all_known("cost_per_gpu_hour", weighted_mean("cost_per_gpu_hour", "gpu_hours")) }} as cost_per_gpu_hour,
        {{ if_all_known("g_per_gpu_hour", weighted_mean("g_per_gpu_hour", "gpu_hours")) }} as g_per_gpu_hour,
        min(is_incremental_power_measured) as is_incremental_power_measured
    from priced
    where kind = 'original'
    group by incident_id, site_id, job_id
    having min(is_incremental_power_measured) = max(is_incremental_power_measured)

)

select
    priced.incident_id,
    priced.site_id,
    priced.workload_id,
    priced.job_id,
    priced.kind,
    priced.slice_started_at as moved_at,
    priced.gpu_hours,
    priced.lost_gpu_hours,
    case
        when priced.kind = 'caught_up'
            then priced.gpu_hours * (originals.cost_per_gpu_hour - priced.cost_per_gpu_hour)
    end as saved_cost,
    case
        when priced.kind = 'caught_up'
            then priced.gpu_hours * (originals.g_per_gpu_hour - priced.g_per_gpu_hour) / 1000
    end as saved_location_based_kg
from priced
-- What a GPU takes as measured is not set against what it takes as declared.
left join originals
    on
        priced.incident_id = originals.incident_id
        and priced.job_id = originals.job_id
        and priced.is_incremental_power_measured = originals.is_incremental_power_measured
where priced.kind <> 'original'
