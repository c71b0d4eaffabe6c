with

in_force as (

    select
        contracts.*,
        kinds.volume_basis,
        kinds.is_delivered,
        kinds.is_collared,
        months.local_month,
        months.month_hours,
        {{ in_force_from("contracts", "months") }} as in_force_from_at,
        {{ in_force_until("contracts", "months") }} as in_force_until_at,
        {{ hours_in_force("contracts", "months") }} as in_force_hours
    from {{ source("raw", "contracts") }} as contracts
    inner join {{ source("raw", "contract_kinds") }} as kinds
        on
            contracts.kind = kinds.contract_kind
            and kinds.is_ppa
    inner join {{ ref("int_sourcing_months") }} as months
        on
            contracts.site_id = months.site_id
            and {{ is_in_force_in("contracts", "months") }}

),

quarters as (

    select
        contract_id,
        valid_from_at,
        local_month,
        unnest(
            generate_series(in_force_from_at, in_force_until_at - interval 15 minutes, interval 15 minutes)
        ) at time zone time_zone as local_started_at
    from in_force
    where volume_basis = 'shape'

),

shapes as (

    select
        quarters.contract_id,
        quarters.valid_from_at,
        quarters.local_month,
        {{ interval_mw_to_mwh(exact_sum("coalesce(windows.power_mw, 0)")) }} as volume_mwh
    from quarters
    left join {{ source("raw", "contract_shapes") }} as windows
        on
            quarters.contract_id = windows.contract_id
            and quarters.valid_from_at = windows.valid_from_at
            and {{ is_in_months("month(quarters.local_started_at)", "windows.month_from", "windows.month_to") }}
            and {{ is_in_hours("hour(quarters.local_started_at)", "windows.hour_from", "windows.hour_to") }}
            and windows.day_kind in (
                'all', case when isodow(quarters.local_started_at) <= 5 then 'workday' else 'weekend' end
            )
    group by quarters.contract_id, quarters.valid_from_at, quarters.local_month

),

volumes as (

    select
        in_force.*,
        in_force.share_of_plant
        * in_force.p50_mwh[month(in_force.local_month)]
        * in_force.in_force_hours / in_force.month_hours as plant_p50_mwh,
        in_force.share_of_plant
        * in_force.p90_mwh[month(in_force.local_month)]
        * in_force.in_force_hours / in_force.month_hours as plant_p90_mwh,
        case in_force.volume_basis
            when 'baseload' then in_force.baseload_mw * in_force.in_force_hours
            when 'shape' then shapes.volume_mwh
        end as schedule_mwh
    from in_force
    left join shapes
        on
            in_force.contract_id = shapes.contract_id
            and in_force.valid_from_at = shapes.valid_from_at
            and in_force.local_month = shapes.local_month

),

expected as (

    select
        *,
        case when volume_basis = 'plant' then plant_p50_mwh else schedule_mwh end as expected_p50_mwh,
        case when volume_basis = 'plant' then plant_p90_mwh else schedule_mwh end as expected_p90_mwh,
        case
            -- Its price follows the market between floor and cap.
            when is_collared then 0
            -- One that receives the strike bears the market's price instead of being rid of it.
            when not is_delivered and fixed_price_payer = 'counterparty' then 0
            when volume_basis = 'plant' then plant_p50_mwh
            -- The buyer pays the market's price for what the plant does not make.
            when shape_risk = 'buyer' and plant_p50_mwh is null then null
            when shape_risk = 'buyer' then least(schedule_mwh, plant_p50_mwh)
            else schedule_mwh
        end as fixed_price_p50_mwh
    from volumes

)

select
    contract_id,
    site_id,
    local_month,
    kind as contract_kind,
    is_delivered,
    {{ exact_sum("in_force_hours") }} as in_force_hours,
    {{ sum_if_all_known("expected_p50_mwh") }} as expected_p50_mwh,
    {{ sum_if_all_known("expected_p90_mwh") }} as expected_p90_mwh,
    {{ sum_if_all_known("fixed_price_p50_mwh") }}
        as fixed_price_p50_mwh
from expected
group by contract_id, site_id, local_month, kind, is_delivered
