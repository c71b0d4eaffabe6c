{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

known_lines as (

    select
        *,
        {{ landed_path("source_file") }} as landed_path,
        {{ delivery_path("source_file") }} as delivery_path
    from {{ source("raw", "cloud_charges") }}
    where {{ known_at_as_of() }}

),

-- What ends in the window may refund, or be refunded by, what begins in it.
window_lines as (

    select *
    from known_lines
    where {{ in_build_dates("charge_period_ended_at") }}

),

-- One row per file, account and billing period, and sub-account that it names there.
files as (

    select distinct
        known_lines.load_id,
        known_lines.landed_path,
        known_lines.delivery_path,
        known_lines.load_number,
        known_lines.provider_name,
        known_lines.billing_account_id,
        known_lines.billing_period_started_at,
        known_lines.sub_account_id,
        bool_or(known_lines.sub_account_id is not null) over (
            partition by known_lines.load_id, known_lines.billing_account_id, known_lines.billing_period_started_at
        ) as names_sub_accounts
    from known_lines
    semi join window_lines
        on
            known_lines.billing_account_id = window_lines.billing_account_id
            and known_lines.billing_period_started_at = window_lines.billing_period_started_at

),

-- A file takes the place of what came before it, but not that of another part of its own delivery, nor that of bills of
-- other sub-accounts.
replaced as (

    select distinct
        earlier.load_id,
        earlier.billing_account_id,
        earlier.billing_period_started_at
    from files as earlier
    inner join files as later
        on
            earlier.provider_name = later.provider_name
            and earlier.billing_account_id = later.billing_account_id
            and earlier.billing_period_started_at = later.billing_period_started_at
            and earlier.load_number < later.load_number
    where
        earlier.landed_path = later.landed_path
        or (
            earlier.delivery_path <> later.delivery_path
            and (
                earlier.sub_account_id = later.sub_account_id
                or not earlier.names_sub_accounts
                or not later.names_sub_accounts
            )
        )

),

skus as (

    select *
    from {{ source("raw", "cloud_skus") }}

),

cloud_sites as (

    select distinct
        site_id,
        provider_name,
        region_id
    from skus

),

-- Of an unused commitment FOCUS leaves the consumption empty: what was priced is what could still be had.
lines as (

    select
        window_lines.*,
        cloud_sites.site_id,
        skus.gpu_count,
        coalesce(window_lines.commitment_discount_status = 'Unused', false) as is_unused_commitment,
        window_lines.consumed_quantity is not null
        and coalesce(window_lines.commitment_discount_status <> 'Unused', true) as is_consumption_told,
        json_extract_string(window_lines.tags, '$.workload') as workload_tag
    from window_lines
    anti join replaced
        on
            window_lines.load_id = replaced.load_id
            and window_lines.billing_account_id = replaced.billing_account_id
            and window_lines.billing_period_started_at = replaced.billing_period_started_at
    left join skus
        on
            window_lines.provider_name = skus.provider_name
            and window_lines.region_id = skus.region_id
            and window_lines.sku_id = skus.sku_id
    left join cloud_sites
        on
            window_lines.provider_name = cloud_sites.provider_name
            and window_lines.region_id = cloud_sites.region_id

),

-- What a line without consumption of its own, such as a credit, tax or correction, belongs to: the usage of its
-- resource in its time, where that is one site's and one workload's.
owners as (

    select
        lines.load_id,
        lines.source_file,
        lines.source_row,
        min(usages.site_id) as site_id,
        min(usages.workload_tag) as workload_tag
    from lines
    inner join lines as usages
        on
            lines.provider_name = usages.provider_name
            and lines.billing_account_id = usages.billing_account_id
            and lines.resource_id = usages.resource_id
            and lines.charge_period_started_at
            < greatest(usages.charge_period_ended_at, usages.charge_period_started_at + interval 1 microsecond)
            and usages.charge_period_started_at
            < greatest(lines.charge_period_ended_at, lines.charge_period_started_at + interval 1 microsecond)
    where
        (lines.charge_category <> 'Usage' or lines.charge_class = 'Correction')
        and usages.charge_category = 'Usage'
        and usages.charge_class is null
        and not usages.is_unused_commitment
    group by lines.load_id, lines.source_file, lines.source_row
    having
        count(distinct coalesce(usages.workload_tag, '')) = 1
        and count(distinct coalesce(usages.site_id, '')) = 1

),

measured as (

    select
        lines.* exclude (site_id, workload_tag),
        coalesce(lines.site_id, owners.site_id) as site_id,
        coalesce(lines.workload_tag, owners.workload_tag) as workload_tag,
        owners.load_id is not null as has_owner,
        case when lines.is_consumption_told then lines.consumed_quantity else lines.pricing_quantity end as quantity,
        case
            when lines.is_consumption_told then coalesce(lines.consumed_unit, lines.pricing_unit)
            else lines.pricing_unit
        end as unit
    from lines
    left join owners
        on
            lines.load_id = owners.load_id
            and lines.source_file = owners.source_file
            and lines.source_row = owners.source_row

),

-- A correction of money alone is of no GPU-hour.
counted as (

    select
        *,
        cast(charge_period_started_at as date) as utc_date,
        charge_category = 'Usage' and gpu_count is not null as is_of_gpus,
        case
            when charge_category = 'Usage' and coalesce(quantity, case charge_class when 'Correction' then 0 end) = 0
                then 0
            when charge_category = 'Usage'
                then
                    quantity * {{ hours_per_unit("unit") }}
                    * case when {{ is_gpu_unit("unit") }} then 1 else gpu_count end
        end as charged_gpu_hours
    from measured

)

select
    counted.site_id,
    case
        when counted.is_unused_commitment then 'idle'
        when workloads.workload_id is not null then workloads.workload_id
        when counted.charge_category = 'Usage' or counted.workload_tag is not null or counted.has_owner
            then 'unassigned'
        else 'unallocated'
    end as workload_id,
    case
        when counted.is_unused_commitment then null
        when workloads.workload_id is not null then workloads.criticality
        when counted.charge_category = 'Usage' or counted.workload_tag is not null or counted.has_owner
            then 'tolerant'
    end as criticality,
    counted.provider_name,
    counted.billing_account_id,
    counted.sub_account_id,
    counted.billing_period_started_at,
    counted.charge_period_started_at,
    counted.charge_period_ended_at,
    counted.utc_date,
    counted.charge_category,
    counted.charge_class,
    counted.charge_description,
    counted.service_category,
    counted.service_name,
    counted.sku_id,
    counted.region_id,
    counted.resource_id,
    counted.pricing_category,
    counted.commitment_discount_id,
    counted.commitment_discount_status,
    counted.tags,
    counted.consumed_quantity,
    counted.consumed_unit,
    case when counted.is_of_gpus and not counted.is_unused_commitment then counted.charged_gpu_hours end as gpu_hours,
    case when counted.is_of_gpus and counted.is_unused_commitment then counted.charged_gpu_hours end
        as unused_gpu_hours,
    counted.is_of_gpus and counted.charged_gpu_hours is null as is_gpu_hours_unknown,
    counted.is_unused_commitment,
    counted.billed_cost * fx_rates.rate_to_reporting as billed_cost,
    counted.effective_cost * fx_rates.rate_to_reporting as effective_cost,
    counted.list_cost * fx_rates.rate_to_reporting as list_cost,
    counted.list_unit_price * fx_rates.rate_to_reporting as list_unit_price,
    counted.list_unit_price * fx_rates.rate_to_reporting
    / nullif(
        {{ hours_per_unit("counted.pricing_unit") }}
        * case when {{ is_gpu_unit("counted.pricing_unit") }} then 1 else counted.gpu_count end,
        0
    ) as list_price_per_gpu_hour,
    organization.reporting_currency as currency_code,
    counted.effective_cost as source_effective_cost,
    counted.currency_code as source_currency_code,
    counted.known_at,
    counted.load_id,
    counted.source_file,
    counted.source_row
from counted
cross join {{ source("raw", "organization") }} as organization
left join {{ source("raw", "workloads") }} as workloads on counted.workload_tag = workloads.workload_id
left join {{ ref("stg_fx_rates") }} as fx_rates
    on
        counted.currency_code = fx_rates.currency_code
        and counted.utc_date = fx_rates.rate_date
where {{ in_build_dates("counted.utc_date") }}
