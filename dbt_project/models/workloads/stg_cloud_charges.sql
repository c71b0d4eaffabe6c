with

latest as (

    {{ latest_revision(
        source("raw", "cloud_charges"),
        [
            "provider_name",
            "billing_account_id",
            "sub_account_id",
            "charge_period_started_at",
            "charge_category",
            "sku_id",
            "resource_id",
            "pricing_category",
            "commitment_discount_id",
            "commitment_discount_status",
            "tags",
        ]
    ) }}

),

revisions as (

    select
        latest.*,
        coalesce(latest.commitment_discount_status = 'Unused', false) as is_unused_commitment,
        latest.charge_category = 'Usage'
        and coalesce(latest.consumed_unit, latest.pricing_unit) in ('Hours', 'Hour', 'h') as is_by_the_hour,
        fx_rates.rate_to_reporting as exchange_rate
    from latest
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            latest.currency_code = fx_rates.currency_code
            and cast(latest.charge_period_started_at as date) = fx_rates.rate_date

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

)

select
    cloud_sites.site_id,
    json_extract_string(revisions.tags, '$.workload') as workload_tag,
    revisions.provider_name,
    revisions.billing_account_id,
    revisions.sub_account_id,
    revisions.charge_period_started_at,
    revisions.charge_period_ended_at,
    cast(revisions.charge_period_started_at as date) as utc_date,
    revisions.charge_category,
    revisions.charge_class,
    revisions.charge_description,
    revisions.service_category,
    revisions.service_name,
    revisions.sku_id,
    revisions.region_id,
    revisions.resource_id,
    revisions.pricing_category,
    revisions.commitment_discount_id,
    revisions.commitment_discount_status,
    revisions.tags,
    revisions.consumed_quantity,
    revisions.consumed_unit,
    case
        when revisions.is_by_the_hour and not revisions.is_unused_commitment
            then revisions.consumed_quantity * skus.gpu_count
    end as gpu_hours,
    -- FOCUS leaves consumption empty where a commitment was not used: what was priced is what could still be had.
    case
        when revisions.is_by_the_hour and revisions.is_unused_commitment
            then revisions.pricing_quantity * skus.gpu_count
    end as unused_gpu_hours,
    revisions.is_unused_commitment,
    revisions.billed_cost * revisions.exchange_rate as billed_cost,
    revisions.effective_cost * revisions.exchange_rate as effective_cost,
    revisions.list_cost * revisions.exchange_rate as list_cost,
    revisions.list_unit_price * revisions.exchange_rate as list_unit_price,
    revisions.list_unit_price * revisions.exchange_rate / nullif(skus.gpu_count, 0) as list_price_per_gpu_hour,
    organization.reporting_currency as currency_code,
    revisions.effective_cost as source_effective_cost,
    revisions.currency_code as source_currency_code,
    revisions.known_at,
    revisions.load_id,
    revisions.source_file,
    revisions.source_row
from revisions
cross join {{ source("raw", "organization") }} as organization
left join skus
    on
        revisions.provider_name = skus.provider_name
        and revisions.region_id = skus.region_id
        and revisions.sku_id = skus.sku_id
left join cloud_sites
    on
        revisions.provider_name = cloud_sites.provider_name
        and revisions.region_id = cloud_sites.region_id
