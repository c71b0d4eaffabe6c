{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

appended_bills as (

    select distinct provider_name
    from {{ source("raw", "cloud_skus") }}
    where bill_delivery = 'append'

),

overlapping as (

    select
        charges.site_id,
        charges.billing_account_id,
        charges.utc_date,
        min(charges.charge_period_started_at) as interval_started_at,
        max(charges.charge_period_ended_at) as interval_ended_at,
        count(*) as line_count,
        max_by(charges.source_file, charges.known_at) as source_file
    from {{ ref("stg_cloud_charges") }} as charges
    anti join appended_bills on charges.provider_name = appended_bills.provider_name
    where
        charges.charge_category = 'Usage'
        and charges.charge_class is null
        and charges.resource_id is not null
        and {{ in_build_dates("charges.utc_date") }}
    group by
        charges.site_id,
        charges.provider_name,
        charges.billing_account_id,
        charges.billing_period_started_at,
        charges.sub_account_id,
        charges.resource_id,
        charges.sku_id,
        charges.utc_date
    having count(distinct {{ delivery_path("charges.source_file") }}) > 1

)

select
    'bill_overlap' as rule_id,
    site_id,
    'billing_account' as subject_kind,
    billing_account_id as subject_id,
    min(interval_started_at) as interval_started_at,
    max(interval_ended_at) as interval_ended_at,
    utc_date,
    cast(sum(line_count) as double) as value,
    'each resource and day in one file of the billing period' as expected,
    max(source_file) as source_file
from overlapping
group by site_id, billing_account_id, utc_date

union all

select
    'gpu_hours_unknown' as rule_id,
    site_id,
    'sku' as subject_kind,
    sku_id as subject_id,
    min(charge_period_started_at) as interval_started_at,
    max(charge_period_ended_at) as interval_ended_at,
    utc_date,
    max(consumed_quantity) as value,
    'a unit of time such as Hours, found ' || coalesce(max(consumed_unit), 'none') as expected,
    max(source_file) as source_file
from {{ ref("stg_cloud_charges") }}
where
    is_gpu_hours_unknown
    and {{ in_build_dates("utc_date") }}
group by site_id, sku_id, utc_date
