-- Returns rows (test failure) for sites and local months whose charges are not the all-in costs. A component that is
-- not settled is in neither sum. Rounded sums of a day, 31 of them: less than a third of a cent.
-- The names are FOCUS's, in Pascal case: quoted, though DuckDB would take them without.
-- noqa: disable=RF06
with

time_zones as (

    select distinct
        site_id,
        time_zone
    from {{ source("raw", "sites") }}

),

charges as (

    select
        charges."x_SiteId" as site_id,
        cast(date_trunc('month', charges."ChargePeriodStart" at time zone time_zones.time_zone) as date) as local_month,
        sum(charges."x_ReportingEffectiveCost") as cost,
        sum(charges."EffectiveCost") filter (where charges."x_CostComponent" <> 'cloud') as own_cost
    from {{ ref("focus_charges") }} as charges
    inner join time_zones on charges."x_SiteId" = time_zones.site_id
    group by all

),

all_in as (

    select
        site_id,
        cast(date_trunc('month', local_date) as date) as local_month,
        sum(
            coalesce(tariff_energy_cost, 0) + coalesce(network_cost, 0) + coalesce(levies_cost, 0)
            + coalesce(demand_cost, 0) + coalesce(capacity_cost, 0) + coalesce(export_cost, 0)
            + coalesce(storage_cost, 0) + coalesce(allocation_cost, 0) + coalesce(ppa_cost, 0)
            + coalesce(battery_cost, 0) + coalesce(depreciation_cost, 0) + coalesce(operations_cost, 0)
        ) as own_cost,
        sum(coalesce(cloud_cost, 0)) as cloud_cost
    from {{ ref("fct_all_in_costs") }}
    group by all

)

select
    all_in.site_id,
    all_in.local_month,
    all_in.own_cost,
    all_in.cloud_cost,
    charges.own_cost as charged_own_cost,
    charges.cost as charged_cost
from all_in
full join charges
    on
        all_in.site_id = charges.site_id
        and all_in.local_month = charges.local_month
where
    abs(coalesce(all_in.own_cost, 0) - coalesce(charges.own_cost, 0)) > 0.003
    or abs(coalesce(all_in.own_cost + all_in.cloud_cost, 0) - coalesce(charges.cost, 0)) > 0.003
