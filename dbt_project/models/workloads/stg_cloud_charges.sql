{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

{# A late line or two repeat a charge of the file before; a bill sent again repeats most. #}
{% set least_ratio_again = 0.1 %}

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

skus as (

    select *
    from {{ source("raw", "cloud_skus") }}

),

appended_bills as (

    select distinct provider_name
    from skus
    where bill_delivery = 'append'

),

-- What tells charges apart well enough to see whether a file has them again: one row per file and charge. Usage alone
-- is looked at, unless a file has none: taxes of different bills look alike.
file_charges as (

    select distinct
        known_lines.load_id,
        known_lines.load_number,
        known_lines.landed_path,
        known_lines.delivery_path,
        known_lines.billing_account_id,
        known_lines.billing_period_started_at,
        known_lines.provider_name,
        row(
            known_lines.billing_account_id,
            known_lines.billing_period_started_at,
            known_lines.provider_name,
            coalesce(known_lines.sub_account_id, ''),
            known_lines.charge_category,
            known_lines.charge_period_started_at,
            coalesce(known_lines.resource_id, ''),
            coalesce(known_lines.sku_id, '')
        ) as charge
    from known_lines
    semi join window_lines
        on
            known_lines.billing_account_id = window_lines.billing_account_id
            and known_lines.billing_period_started_at = window_lines.billing_period_started_at
    qualify
        known_lines.charge_category = 'Usage'
        or not bool_or(known_lines.charge_category = 'Usage') over (
            partition by
                known_lines.load_id, known_lines.billing_account_id, known_lines.billing_period_started_at
        )

),

delivered_charges as (

    select
        charge,
        delivery_path,
        max(load_number) as load_number
    from file_charges
    group by charge, delivery_path

),

-- The last two deliveries that have a charge.
last_charges as (

    select
        charge,
        arg_max(delivery_path, load_number, 2) as delivery_paths,
        max(load_number, 2) as load_numbers
    from delivered_charges
    group by charge

),

recurring_charges as (

    select
        file_charges.load_id,
        file_charges.load_number,
        file_charges.billing_account_id,
        file_charges.billing_period_started_at,
        max(file_charges.load_number) over (
            partition by
                file_charges.landed_path, file_charges.billing_account_id, file_charges.billing_period_started_at
        ) as path_load_number,
        appended_bills.provider_name is not null as is_appended,
        coalesce(
            case
                when last_charges.delivery_paths[1] <> file_charges.delivery_path then last_charges.load_numbers[1]
                else last_charges.load_numbers[2]
            end > file_charges.load_number,
            false
        ) as is_again
    from file_charges
    inner join last_charges on file_charges.charge = last_charges.charge
    left join appended_bills on file_charges.provider_name = appended_bills.provider_name

),

-- A file takes the place of its former self, and of every file before it of whose charges it has so many again that it
-- must be the same bill, sent again.
replaced as (

    select
        load_id,
        billing_account_id,
        billing_period_started_at
    from recurring_charges
    group by load_id, load_number, billing_account_id, billing_period_started_at
    having
        max(path_load_number) > load_number
        or (
            not bool_or(is_appended)
            and count(*) filter (where is_again) >= {{ least_ratio_again }} * count(*)
        )

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
        case when json_valid(window_lines.tags) then json_extract_string(window_lines.tags, '$.workload') end
            as workload_tag
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
