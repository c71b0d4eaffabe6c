{# Components of the all-in cost as charges. Depreciation and operations stand apart, one charge per cost declared. #}
{% set components = {
    "tariff_energy": "Energy",
    "network": "Network charges",
    "levies": "Levies",
    "demand": "Demand charge",
    "capacity": "Capacity charge",
    "export": "Energy exported",
    "storage": "Battery tolling",
    "allocation": "Node-hours of the allocation",
    "ppa": "Power purchase agreements",
    "battery": "Energy taken from batteries",
} %}
{% set kinds = {"depreciation": "Depreciation", "operations": "Operations"} %}

with

sites as (

    select
        site_id,
        any_value(name) as name,
        any_value(venue_kind) as venue_kind,
        any_value(time_zone) as time_zone
    from {{ source("raw", "sites") }}
    group by site_id

),

-- A component that is not known yet is no charge yet, and one of nothing is none.
component_costs as (

    {% for component, description in components.items() -%}
    select
        site_id,
        workload_id,
        local_date,
        '{{ component }}' as component,
        '{{ component }}' as cost_id,
        '{{ description }}' as description,
        {{ component }}_cost as cost,
        cast(null as date) as first_date,
        cast(null as date) as end_date
    from {{ ref("fct_all_in_costs") }}
    where {{ component }}_cost <> 0

    union all

    {% endfor -%}
    {% for kind, description in kinds.items() -%}
    select
        all_in.site_id,
        all_in.workload_id,
        all_in.local_date,
        '{{ kind }}' as component,
        costs.cost_id,
        '{{ description }}: ' || costs.name as description,
        round(
            all_in.{{ kind }}_cost * costs.cost
            / {{ exact_sum("costs.cost", over="work_day") }}, 9
        ) as cost,
        costs.first_date,
        costs.end_date
    from {{ ref("fct_all_in_costs") }} as all_in
    inner join {{ ref("int_standing_costs") }} as costs
        on
            all_in.site_id = costs.site_id
            and all_in.local_date = costs.local_date
            and costs.kind = '{{ kind }}'
    where all_in.{{ kind }}_cost <> 0
    window work_day as (partition by all_in.site_id, all_in.workload_id, all_in.local_date)
    {{ "union all" if not loop.last }}

    {% endfor %}
),

-- What was held is priced by the GPU-hour, free GPUs too, though nobody consumed them; what is of no GPU, by the day.
own_costs as (

    select
        costs.*,
        sites.name as site_name,
        sites.venue_kind,
        all_in.allocated_gpu_hours,
        case costs.workload_id
            when 'idle' then all_in.idle_gpu_hours
            when 'unknown' then all_in.unknown_gpu_hours
            else all_in.allocated_gpu_hours
        end as held_gpu_hours,
        row_number() over (
            partition by costs.site_id, costs.workload_id, costs.local_date
            order by costs.cost < 0, costs.component, costs.cost_id
        ) = 1 as is_first,
        case costs.workload_id
            when 'idle' then ', free GPUs'
            when 'overhead' then ', cooling and losses'
            when 'stored' then ', into and out of the batteries'
            when 'unallocated' then ', not allocated to work'
            when 'unknown' then ', held by work that is not known'
            else ''
        end as remark,
        costs.cost < 0 as is_credit,
        cast(costs.local_date as timestamp) at time zone sites.time_zone as started_at,
        cast(costs.local_date + 1 as timestamp) at time zone sites.time_zone as ended_at,
        date_trunc('month', cast(costs.local_date as timestamp)) as local_month,
        cast(costs.first_date as timestamp) at time zone sites.time_zone as amortization_started_at,
        cast(costs.end_date as timestamp) at time zone sites.time_zone as amortization_ended_at,
        sites.time_zone,
        all_in.currency_code
    from component_costs as costs
    inner join sites on costs.site_id = sites.site_id
    inner join {{ ref("fct_all_in_costs") }} as all_in
        on
            costs.site_id = all_in.site_id
            and costs.workload_id = all_in.workload_id
            and costs.local_date = all_in.local_date

),

priced as (

    select
        *,
        case
            when is_credit then null
            when held_gpu_hours > 0 then held_gpu_hours
            else 1
        end as pricing_quantity,
        case
            when is_credit then null
            when held_gpu_hours > 0 then 'GPU-Hours'
            else 'Days'
        end as pricing_unit
    from own_costs

),

own_charges as (

    select
        -- What a machine cost was billed when it was bought; its depreciation is no bill.
        case when priced.component = 'depreciation' then 0 else priced.cost end as billed_cost,
        organization.organization_id as billing_account_id,
        organization.name as billing_account_name,
        priced.currency_code as billing_currency,
        (priced.local_month + interval 1 month) at time zone priced.time_zone as billing_period_ended_at,
        priced.local_month at time zone priced.time_zone as billing_period_started_at,
        case when priced.is_credit then 'Credit' else 'Usage' end as charge_category,
        cast(null as varchar) as charge_class,
        priced.description || priced.remark as charge_description,
        priced.ended_at as charge_period_ended_at,
        priced.started_at as charge_period_started_at,
        cast(null as varchar) as commitment_discount_category,
        cast(null as varchar) as commitment_discount_id,
        cast(null as varchar) as commitment_discount_status,
        cast(null as varchar) as commitment_discount_type,
        case when not priced.is_credit then priced.allocated_gpu_hours end as consumed_quantity,
        case
            when not priced.is_credit and priced.allocated_gpu_hours is not null then 'GPU-Hours'
        end as consumed_unit,
        priced.cost as contracted_cost,
        priced.cost / priced.pricing_quantity as contracted_unit_price,
        priced.cost as effective_cost,
        organization.name as invoice_issuer_name,
        priced.cost as list_cost,
        priced.cost / priced.pricing_quantity as list_unit_price,
        case when not priced.is_credit then 'Standard' end as pricing_category,
        priced.pricing_quantity,
        priced.pricing_unit,
        organization.name as provider_name,
        organization.name as publisher_name,
        priced.site_id as region_id,
        priced.site_name as region_name,
        priced.site_id || '/' || priced.workload_id as resource_id,
        priced.workload_id as resource_name,
        'Workload' as resource_type,
        'Compute' as service_category,
        case priced.venue_kind
            when 'own_site' then 'Own site GPU'
            when 'hpc_allocation' then 'HPC allocation GPU'
            when 'public_cloud' then 'Public cloud GPU, own costs'
        end as service_name,
        priced.site_id || '/' || priced.cost_id as sku_id,
        priced.site_id || '/' || priced.cost_id as sku_price_id,
        priced.site_id as sub_account_id,
        priced.site_name as sub_account_name,
        cast(json_object('site', priced.site_id, 'workload', priced.workload_id) as varchar) as tags,
        priced.site_id,
        priced.workload_id,
        priced.component,
        -- Once per workload and day, however many charges it has. A cloud's stand with its bill.
        case when priced.is_first and priced.venue_kind <> 'public_cloud' then priced.allocated_gpu_hours end
            as gpu_hours,
        priced.amortization_started_at,
        priced.amortization_ended_at,
        priced.currency_code as reporting_currency,
        priced.cost as reporting_effective_cost
    from priced
    cross join {{ source("raw", "organization") }} as organization

),

cloud_charges as (

    select
        bills.billed_cost,
        bills.billing_account_id,
        cast(null as varchar) as billing_account_name,
        bills.currency_code as billing_currency,
        bills.billing_period_ended_at,
        bills.billing_period_started_at,
        bills.charge_category,
        bills.charge_class,
        bills.charge_description,
        bills.charge_period_ended_at,
        bills.charge_period_started_at,
        bills.commitment_discount_category,
        bills.commitment_discount_id,
        bills.commitment_discount_status,
        bills.commitment_discount_type,
        bills.consumed_quantity,
        bills.consumed_unit,
        bills.contracted_cost,
        bills.contracted_unit_price,
        bills.effective_cost,
        bills.provider_name as invoice_issuer_name,
        bills.list_cost,
        bills.list_unit_price,
        bills.pricing_category,
        bills.pricing_quantity,
        bills.pricing_unit,
        bills.provider_name,
        bills.provider_name as publisher_name,
        bills.region_id,
        cast(null as varchar) as region_name,
        bills.resource_id,
        cast(null as varchar) as resource_name,
        cast(null as varchar) as resource_type,
        bills.service_category,
        bills.service_name,
        bills.sku_id,
        cast(null as varchar) as sku_price_id,
        bills.sub_account_id,
        cast(null as varchar) as sub_account_name,
        bills.tags,
        charges.site_id,
        charges.workload_id,
        'cloud' as component,
        charges.gpu_hours,
        cast(null as timestamptz) as amortization_started_at,
        cast(null as timestamptz) as amortization_ended_at,
        charges.currency_code as reporting_currency,
        charges.effective_cost as reporting_effective_cost
    from {{ ref("stg_cloud_charges") }} as charges
    -- The bill's own values, from the row that staging took.
    inner join {{ source("raw", "cloud_charges") }} as bills
        on
            charges.load_id = bills.load_id
            and charges.source_file = bills.source_file
            and charges.source_row = bills.source_row

),

charges as (

    select *
    from own_charges

    union all

    select *
    from cloud_charges

)

-- The names are FOCUS's, in Pascal case: quoted, though DuckDB would take them without.
-- noqa: disable=RF06
select
    billed_cost as "BilledCost",
    billing_account_id as "BillingAccountId",
    billing_account_name as "BillingAccountName",
    billing_currency as "BillingCurrency",
    billing_period_ended_at as "BillingPeriodEnd",
    billing_period_started_at as "BillingPeriodStart",
    charge_category as "ChargeCategory",
    charge_class as "ChargeClass",
    charge_description as "ChargeDescription",
    charge_period_ended_at as "ChargePeriodEnd",
    charge_period_started_at as "ChargePeriodStart",
    commitment_discount_category as "CommitmentDiscountCategory",
    commitment_discount_id as "CommitmentDiscountId",
    cast(null as varchar) as "CommitmentDiscountName",
    commitment_discount_status as "CommitmentDiscountStatus",
    commitment_discount_type as "CommitmentDiscountType",
    consumed_quantity as "ConsumedQuantity",
    consumed_unit as "ConsumedUnit",
    contracted_cost as "ContractedCost",
    contracted_unit_price as "ContractedUnitPrice",
    effective_cost as "EffectiveCost",
    invoice_issuer_name as "InvoiceIssuerName",
    list_cost as "ListCost",
    list_unit_price as "ListUnitPrice",
    pricing_category as "PricingCategory",
    pricing_quantity as "PricingQuantity",
    pricing_unit as "PricingUnit",
    provider_name as "ProviderName",
    publisher_name as "PublisherName",
    region_id as "RegionId",
    region_name as "RegionName",
    resource_id as "ResourceId",
    resource_name as "ResourceName",
    resource_type as "ResourceType",
    service_category as "ServiceCategory",
    service_name as "ServiceName",
    sku_id as "SkuId",
    sku_price_id as "SkuPriceId",
    sub_account_id as "SubAccountId",
    sub_account_name as "SubAccountName",
    tags as "Tags",
    amortization_ended_at as "x_AmortizationPeriodEnd",
    amortization_started_at as "x_AmortizationPeriodStart",
    component as "x_CostComponent",
    gpu_hours as "x_GpuHours",
    reporting_currency as "x_ReportingCurrency",
    reporting_effective_cost as "x_ReportingEffectiveCost",
    site_id as "x_SiteId",
    workload_id as "x_WorkloadId"
from charges
order by all
