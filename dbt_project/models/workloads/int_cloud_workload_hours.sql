with

usage_charges as (

    select
        charges.*,
        coalesce(workloads.workload_id, 'unassigned') as workload_id,
        coalesce(workloads.criticality, 'tolerant') as criticality
    from {{ ref("stg_cloud_charges") }} as charges
    left join {{ source("raw", "workloads") }} as workloads on charges.workload_tag = workloads.workload_id
    where charges.charge_category = 'Usage'

)

select
    site_id,
    date_trunc('hour', charge_period_started_at) as hour_started_at,
    cast(charge_period_started_at as date) as utc_date,
    case when is_unused_commitment then 'idle' else workload_id end as workload_id,
    case when not is_unused_commitment then criticality end as criticality,
    coalesce({{ exact_sum("gpu_hours") }}, 0) as allocated_gpu_hours,
    coalesce({{ exact_sum("gpu_hours", "pricing_category = 'Standard'") }}, 0) as on_demand_gpu_hours,
    coalesce({{ exact_sum("unused_gpu_hours") }}, 0) as idle_gpu_hours,
    {{ exact_sum("effective_cost") }} as cloud_cost,
    any_value(currency_code) as currency_code
from usage_charges
where site_id is not null
group by all
