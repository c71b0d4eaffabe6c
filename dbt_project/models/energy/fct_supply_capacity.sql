{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

intervals as (

    select *
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date") }}

),

-- An event is in force in an interval of which it covers at least half; one without end is still open.
events as (

    select
        intervals.site_id,
        intervals.interval_started_at,
        bool_or(events.event_type = 'grid_outage') as has_grid_outage,
        min(events.import_limit_mw) filter (where events.event_type = 'curtailment_order') as curtailment_limit_mw
    from intervals
    inner join {{ ref("stg_grid_events") }} as events
        on
            intervals.site_id = events.site_id
            and events.event_type in ('grid_outage', 'curtailment_order')
            and intervals.interval_started_at < coalesce(events.ended_at, timestamptz 'infinity')
            and intervals.interval_ended_at > events.started_at
    where
        epoch(
            least(intervals.interval_ended_at, coalesce(events.ended_at, intervals.interval_ended_at))
            - greatest(intervals.interval_started_at, events.started_at)
        ) >= 450
    group by intervals.site_id, intervals.interval_started_at

),

storage as (

    select
        site_id,
        interval_started_at,
        {{ kw_to_mw(sum_if_all_known("sustained_kw")) }} as local_storage_mw
    from {{ ref("int_battery_intervals") }}
    where {{ in_build_dates("utc_date") }}
    group by site_id, interval_started_at

),

-- What a GPU of the site takes at full power, its host's share included.
site_gpus as (

    select
        site_id,
        {{ exact_sum("gpu_count * peak_w + host_peak_w") }} / sum(gpu_count) / 1e6 as peak_mw_per_gpu
    from {{ source("raw", "nodes") }}
    where gpu_count > 0
    group by site_id

),

joined as (

    select
        intervals.*,
        site_gpus.peak_mw_per_gpu,
        -- A reading is what tells that the connection was there; where it has no meter, what was drawn does.
        case
            when meters.has_grid_meter then meters.grid_import_kwh is not null
            else meters.facility_total_kwh is not null or meters.it_load_kwh is not null
        end as is_grid_read,
        balance.it_kwh,
        balance.consumption_kwh,
        balance.contracted_kwh,
        balance.pue_ratio as measured_pue_ratio,
        balance.coverage_ratio,
        coalesce(events.has_grid_outage, false) as has_grid_outage,
        events.curtailment_limit_mw,
        {{ kw_to_mw(interval_kwh_to_kw("balance.onsite_generation_kwh")) }} as local_generation_mw,
        case when storage.site_id is null then 0 else storage.local_storage_mw end as local_storage_mw
    from intervals
    inner join {{ ref("fct_energy_balance") }} as balance
        on
            intervals.site_id = balance.site_id
            and intervals.interval_started_at = balance.interval_started_at
    inner join {{ ref("int_meter_roles_pivoted") }} as meters
        on
            intervals.site_id = meters.site_id
            and intervals.interval_started_at = meters.interval_started_at
    left join site_gpus on intervals.site_id = site_gpus.site_id
    left join events
        on
            intervals.site_id = events.site_id
            and intervals.interval_started_at = events.interval_started_at
    left join storage
        on
            intervals.site_id = storage.site_id
            and intervals.interval_started_at = storage.interval_started_at
    where
        {{ in_build_dates("balance.utc_date") }}
        and {{ in_build_dates("meters.utc_date") }}

),

layers as (

    select
        *,
        case
            when has_grid_outage then 0
            when is_grid_read
                then
                    least(
                        grid_firm_mw + grid_non_firm_mw,
                        coalesce(curtailment_limit_mw, grid_firm_mw + grid_non_firm_mw)
                    )
        end as grid_mw,
        case
            when has_grid_outage and not is_local_islandable then 0
            else local_generation_mw + local_storage_mw
        end as local_mw,
        -- Below a tenth of the IT capacity the fixed losses make the ratio say nothing about the next MW.
        coalesce(
            measured_pue_ratio is not null
            and coverage_ratio >= 1
            and {{ kw_to_mw(interval_kwh_to_kw("it_kwh")) }} >= 0.1 * it_capacity_mw,
            false
        ) as is_pue_measured
    from joined

),

with_pue as (

    select
        *,
        case when is_pue_measured then measured_pue_ratio else design_pue_ratio end as applied_pue_ratio
    from layers

),

-- What each limit would leave for IT. A site that states no electrical or cooling limit is not bound by one.
limits as (

    select
        *,
        (grid_mw + local_mw) / applied_pue_ratio as supply_it_mw,
        -- What is known of the supply: it gives no less.
        (coalesce(grid_mw, 0) + coalesce(local_mw, local_generation_mw, local_storage_mw, 0)) / applied_pue_ratio
            as known_supply_it_mw,
        coalesce(electrical_limit_mw / applied_pue_ratio, 'infinity'::double) as electrical_it_mw,
        coalesce(cooling_limit_mw, 'infinity'::double) as cooling_it_mw,
        least(electrical_it_mw, cooling_it_mw, it_capacity_mw) as own_limit_it_mw
    from with_pue

),

effective as (

    select
        *,
        case
            when supply_it_mw is not null or known_supply_it_mw >= own_limit_it_mw
                then round(least(coalesce(supply_it_mw, known_supply_it_mw), own_limit_it_mw), 9)
        end as effective_it_mw,
        least(known_supply_it_mw, own_limit_it_mw) >= committed_it_mw as is_commitment_certain
    from limits

)

select
    site_id,
    interval_started_at,
    interval_ended_at,
    utc_date,
    local_date,
    local_month,
    week,
    grid_mw,
    local_mw,
    local_generation_mw,
    local_storage_mw,
    electrical_limit_mw,
    cooling_limit_mw,
    it_capacity_mw,
    applied_pue_ratio,
    not is_pue_measured as is_pue_design,
    effective_it_mw,
    committed_it_mw,
    effective_it_mw - committed_it_mw as headroom_it_mw,
    floor(round((effective_it_mw - committed_it_mw) / peak_mw_per_gpu, 6)) as headroom_gpu_count,
    case
        when effective_it_mw is not null and committed_it_mw is not null
            then least(1, effective_it_mw / nullif(committed_it_mw, 0))
        when is_commitment_certain and committed_it_mw > 0 then 1
    end as availability_ratio,
    case
        when effective_it_mw is not null then effective_it_mw >= committed_it_mw
        when is_commitment_certain then true
    end as is_fully_available,
    case
        when effective_it_mw is null then null
        when effective_it_mw >= it_capacity_mw then 'it_capacity'
        when least(cooling_it_mw, electrical_it_mw, supply_it_mw) = cooling_it_mw then 'cooling_limit'
        when least(electrical_it_mw, supply_it_mw) = electrical_it_mw then 'electrical_limit'
        when has_grid_outage then 'grid_outage'
        when curtailment_limit_mw < grid_firm_mw + grid_non_firm_mw then 'curtailment_order'
        else 'grid_connection'
    end as binding_limit,
    local_committed_mw,
    -- A site whose local layer is committed to nothing has no local availability, rather than a perfect one.
    case when local_committed_mw > 0 then local_mw >= local_committed_mw end as is_local_available,
    case
        when local_committed_mw > 0 and local_mw is not null then least(1, local_mw / local_committed_mw)
    end as local_availability_ratio,
    has_grid_outage,
    curtailment_limit_mw,
    contracted_kwh / nullif(consumption_kwh, 0) as contracted_ratio,
    coverage_ratio
from effective
