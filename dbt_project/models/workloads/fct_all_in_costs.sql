{{ config(materialized = "incremental", meta = {"day": "local_date", "days_before": 1}) }}

{% set import_components = ["tariff_energy", "network", "levies"] %}
{% set other_components = ["demand", "capacity", "export", "storage", "allocation", "ppa"] %}
{% set paid_components = import_components + other_components %}
{% set components = paid_components + ["battery", "cloud", "depreciation", "operations"] %}

with

work as (

    select
        *,
        {{ exact_sum("energy_kwh", over="(partition by site_id, interval_started_at)") }} as facility_kwh,
        count(energy_kwh) over (partition by site_id, interval_started_at)
        = count(*) over (partition by site_id, interval_started_at) as is_metered
    from {{ ref("int_workload_intervals") }}
    where {{ in_build_dates("local_date", days_before=1) }}

),

-- What was paid in the intervals of the days to build.
paid_costs as (

    select *
    from {{ ref("calc_paid_costs") }}
    where {{ in_build_dates("local_date", days_before=1) }}

),

work_shares as (

    select
        site_id,
        workload_id,
        interval_started_at,
        energy_kwh / facility_kwh as energy_ratio
    from work
    where is_metered and facility_kwh > 0

),

allocated_intervals as (

    select distinct
        site_id,
        interval_started_at
    from work_shares

),

-- Three shares of what was paid in an interval: of what the grid charged by the kWh, of all else, and of the cost that
-- left the batteries. Each adds up over the rows of an interval, to 1, 1 and 0: nothing paid is lost or told twice.
shares as (

    select
        paid.site_id,
        work_shares.workload_id,
        paid.interval_started_at,
        (1 - coalesce(paid.stored_ratio, 0)) * work_shares.energy_ratio as import_ratio,
        work_shares.energy_ratio as other_ratio,
        work_shares.energy_ratio as battery_ratio
    from paid_costs as paid
    inner join work_shares
        on
            paid.site_id = work_shares.site_id
            and paid.interval_started_at = work_shares.interval_started_at

    union all

    select
        paid.site_id,
        'unallocated' as workload_id,
        paid.interval_started_at,
        1 - coalesce(paid.stored_ratio, 0) as import_ratio,
        1 as other_ratio,
        1 as battery_ratio
    from paid_costs as paid
    left join allocated_intervals
        on
            paid.site_id = allocated_intervals.site_id
            and paid.interval_started_at = allocated_intervals.interval_started_at
    where allocated_intervals.site_id is null

    union all

    select
        site_id,
        'stored' as workload_id,
        interval_started_at,
        coalesce(stored_ratio, 0) as import_ratio,
        0 as other_ratio,
        -1 as battery_ratio
    from paid_costs
    where stored_ratio > 0 or discharge_cost <> 0

),

paid_days as (

    select
        shares.site_id,
        shares.workload_id,
        paid.local_date,
        {%- for component in import_components %}
        round({{ sum_if_all_known(
            "shares.import_ratio * paid." ~ component ~ "_cost", known="paid." ~ component ~ "_cost"
        ) }}, 9) as {{ component }}_cost,
        {%- endfor %}
        {%- for component in other_components %}
        round({{ sum_if_all_known(
            "shares.other_ratio * paid." ~ component ~ "_cost", known="paid." ~ component ~ "_cost"
        ) }}, 9) as {{ component }}_cost,
        {%- endfor %}
        round({{ sum_if_all_known(
            "shares.battery_ratio * paid.discharge_cost", known="paid.discharge_cost"
        ) }}, 9) as battery_cost
    from shares
    inner join paid_costs as paid
        on
            shares.site_id = paid.site_id
            and shares.interval_started_at = paid.interval_started_at
    group by shares.site_id, shares.workload_id, paid.local_date

),

cloud_days as (

    select
        hours.site_id,
        hours.workload_id,
        cast(hours.hour_started_at at time zone sites.time_zone as date) as local_date,
        round({{ sum_if_all_known("hours.cloud_cost") }}, 9) as cloud_cost
    from {{ ref("int_cloud_workload_hours") }} as hours
    inner join {{ source("raw", "sites") }} as sites
        on
            hours.site_id = sites.site_id
            and {{ is_valid_at("sites", "hours.hour_started_at") }}
    where
        {{ in_build_dates("hours.hour_started_at", days_before=3) }}
        and {{ in_build_dates("local_date", days_before=1) }}
    group by all

),

gpu_days as (

    select
        site_id,
        workload_id,
        local_date,
        allocated_gpu_hours,
        idle_gpu_hours,
        unknown_gpu_hours,
        case workload_id
            when 'idle' then idle_gpu_hours
            when 'unknown' then unknown_gpu_hours
            else allocated_gpu_hours
        end as held_gpu_hours
    from {{ ref("fct_workload_energy") }}
    where {{ in_build_dates("local_date", days_before=1) }}

),

-- Days of which something that was paid could not be given to work: what work is missing from is not free.
part_days as (

    select distinct
        site_id,
        local_date
    from paid_days
    where workload_id = 'unallocated'

),

-- Machines cost as much free as in use: free GPU-hours bear their part in the row idle, and those of which it is not
-- known who held them in the row unknown.
gpu_shares as (

    select
        *,
        held_gpu_hours
        / nullif({{ exact_sum("held_gpu_hours", over="(partition by site_id, local_date)") }}, 0) as gpu_ratio
    from gpu_days

),

standing_days as (

    select
        costs.site_id,
        costs.local_date,
        {{ sum_if_all_known("costs.cost", condition="costs.kind = 'depreciation'", empty=0) }} as depreciation_cost,
        {{ sum_if_all_known("costs.cost", condition="costs.kind = 'operations'", empty=0) }} as operations_cost
    from {{ ref("int_standing_costs") }} as costs
    where {{ in_build_dates("costs.local_date", days_before=1) }}
    group by costs.site_id, costs.local_date

),

standing_shares as (

    select
        standing_days.site_id,
        coalesce(gpu_shares.workload_id, 'unallocated') as workload_id,
        standing_days.local_date,
        round(coalesce(gpu_shares.gpu_ratio, 1) * standing_days.depreciation_cost, 9) as depreciation_cost,
        round(coalesce(gpu_shares.gpu_ratio, 1) * standing_days.operations_cost, 9) as operations_cost
    from standing_days
    left join gpu_shares
        on
            standing_days.site_id = gpu_shares.site_id
            and standing_days.local_date = gpu_shares.local_date
            and gpu_shares.gpu_ratio > 0

),

keys as (

    {%- for relation in ["paid_days", "cloud_days", "standing_shares", "gpu_days"] %}
    select
        site_id,
        workload_id,
        local_date
    from {{ relation }}
    {{ "union" if not loop.last }}
    {%- endfor %}

),

joined as (

    select
        keys.site_id,
        keys.workload_id,
        keys.local_date,
        {%- for kind in ["allocated", "idle", "unknown"] %}
        case when gpu_days.site_id is null then 0 else gpu_days.{{ kind }}_gpu_hours end as {{ kind }}_gpu_hours,
        {%- endfor %}
        {%- for component in paid_components + ["battery"] %}
        case
            when paid_days.site_id is not null then paid_days.{{ component }}_cost
            when part_days.site_id is null then 0
        end as {{ component }}_cost,
        {%- endfor %}
        case when cloud_days.site_id is null then 0 else cloud_days.cloud_cost end as cloud_cost,
        {%- for kind in ["depreciation", "operations"] %}
        case when standing_shares.site_id is null then 0 else standing_shares.{{ kind }}_cost end as {{ kind }}_cost,
        {%- endfor %}
        organization.reporting_currency as currency_code
    from keys
    cross join {{ source("raw", "organization") }} as organization
    left join paid_days
        on
            keys.site_id = paid_days.site_id
            and keys.workload_id = paid_days.workload_id
            and keys.local_date = paid_days.local_date
    left join part_days
        on
            keys.site_id = part_days.site_id
            and keys.local_date = part_days.local_date
    left join cloud_days
        on
            keys.site_id = cloud_days.site_id
            and keys.workload_id = cloud_days.workload_id
            and keys.local_date = cloud_days.local_date
    left join standing_shares
        on
            keys.site_id = standing_shares.site_id
            and keys.workload_id = standing_shares.workload_id
            and keys.local_date = standing_shares.local_date
    left join gpu_days
        on
            keys.site_id = gpu_days.site_id
            and keys.workload_id = gpu_days.workload_id
            and keys.local_date = gpu_days.local_date

),

energy_added as (

    select
        *,
        round(
            tariff_energy_cost + network_cost + levies_cost + demand_cost + capacity_cost + export_cost
            + storage_cost + allocation_cost + ppa_cost + battery_cost, 6
        ) as all_in_energy_cost
    from joined

),

added as (

    select
        *,
        round(all_in_energy_cost + cloud_cost + depreciation_cost + operations_cost, 6) as all_in_cost,
        workload_id in ('idle', 'overhead', 'unallocated') as is_spread,
        case
            when allocated_gpu_hours is not null or unknown_gpu_hours > 0
                then coalesce(allocated_gpu_hours, 0) + unknown_gpu_hours
        end as bearing_gpu_hours
    from energy_added

),

-- What nobody's work caused is borne by the day's work in proportion of its GPU-hours, work that is not known among
-- it; the stock of the batteries is not, since later work takes it out.
spread as (

    select
        site_id,
        local_date,
        {{ sum_if_all_known("bearing_gpu_hours") }} as site_gpu_hours,
        {{ sum_if_all_known("all_in_cost", condition="is_spread", empty=0) }} as spread_cost
    from added
    group by site_id, local_date

),

loaded as (

    select
        added.*,
        case
            when added.workload_id = 'stored' or spread.site_gpu_hours = 0 then added.all_in_cost
            when added.is_spread and spread.site_gpu_hours is not null then 0
            else
                round(
                    added.all_in_cost + spread.spread_cost * added.bearing_gpu_hours / spread.site_gpu_hours, 6
                )
        end as fully_loaded_cost
    from added
    inner join spread
        on
            added.site_id = spread.site_id
            and added.local_date = spread.local_date

)

select
    loaded.site_id,
    loaded.workload_id,
    loaded.local_date,
    workloads.criticality,
    loaded.allocated_gpu_hours,
    loaded.idle_gpu_hours,
    loaded.unknown_gpu_hours,
    {%- for component in components %}
    loaded.{{ component }}_cost,
    {%- endfor %}
    loaded.all_in_energy_cost,
    loaded.all_in_cost,
    loaded.fully_loaded_cost,
    loaded.all_in_cost / nullif(loaded.allocated_gpu_hours, 0) as all_in_cost_per_gpu_hour,
    loaded.fully_loaded_cost / nullif(loaded.allocated_gpu_hours, 0) as fully_loaded_cost_per_gpu_hour,
    loaded.currency_code
from loaded
left join {{ source("raw", "workloads") }} as workloads on loaded.workload_id = workloads.workload_id
