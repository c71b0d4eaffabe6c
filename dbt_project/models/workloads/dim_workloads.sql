select
    workloads.workload_id,
    workloads.name,
    workloads.criticality,
    workloads.max_deferral_hours,
    workloads.allowed_venues,
    workloads.value_per_lost_gpu_hour,
    organization.reporting_currency as currency_code
from {{ source("raw", "workloads") }} as workloads
cross join {{ source("raw", "organization") }} as organization
