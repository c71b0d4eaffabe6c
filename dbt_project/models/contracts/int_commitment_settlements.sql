{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

contracts as (

    select contracts.*
    from {{ source("raw", "contracts") }} as contracts
    inner join {{ source("raw", "contract_kinds") }} as kinds
        on
            contracts.kind = kinds.contract_kind
            and kinds.settlement_model = 'int_commitment_settlements'

),

commitment_contracts as (

    select distinct
        contract_id,
        site_id,
        time_zone,
        currency_code,
        commitment_discount_id
    from contracts
    where kind = 'cloud_commitment'

),

allocated_sites as (

    select distinct site_id
    from contracts
    where kind = 'hpc_allocation'

),

-- The bill's cost of a commitment, used or not, whatever was paid for it in cash and when.
charges as (

    select
        contracts.contract_id,
        contracts.time_zone,
        contracts.currency_code as contract_currency_code,
        case charges.commitment_discount_status
            when 'Used' then 'commitment_used'
            when 'Unused' then 'commitment_unused'
        end as line,
        charges.charge_period_started_at as interval_started_at,
        charges.charge_period_ended_at as interval_ended_at,
        coalesce(charges.gpu_hours, charges.unused_gpu_hours) as gpu_hours,
        {{ in_contract_currency(
            "charges.source_effective_cost",
            "charges.source_currency_code",
            "contracts.currency_code",
            "charges.effective_cost",
            "fx_rates.rate_to_reporting"
        ) }} as cost
    from {{ ref("stg_cloud_charges") }} as charges
    inner join commitment_contracts as contracts
        on
            charges.site_id = contracts.site_id
            and charges.commitment_discount_id = contracts.commitment_discount_id
    left join {{ ref("stg_fx_rates") }} as fx_rates
        on
            contracts.currency_code = fx_rates.currency_code
            and charges.utc_date = fx_rates.rate_date
    where
        charges.charge_category = 'Usage'
        and charges.commitment_discount_status in ('Used', 'Unused')
        and {{ in_build_dates("charges.charge_period_ended_at") }}

),

charge_slices as ({{ cut_to_intervals("charges") }}),

commitments as (

    select
        contract_id,
        line,
        slice_started_at as interval_started_at,
        'GPU-hour' as quantity_unit,
        round({{ sum_if_all_known("gpu_hours * overlap_s / duration_s") }}, 9) as quantity,
        round({{ sum_if_all_known("cost * overlap_s / duration_s") }}, 9) as contract_amount
    from charge_slices
    group by contract_id, line, slice_started_at

),

book_ends as (

    select max(interval_ended_at) as ended_at
    from {{ ref("int_site_intervals") }}
    where {{ in_build_dates("utc_date", days_before=32) }}

),

jobs as (

    select
        jobs.site_id,
        jobs.node_count * jobs.run_s / epoch(jobs.held_until_at - jobs.started_at) as node_count,
        jobs.started_at as interval_started_at,
        least(jobs.held_until_at, book_ends.ended_at) as interval_ended_at
    from {{ ref("stg_jobs") }} as jobs
    inner join allocated_sites on jobs.site_id = allocated_sites.site_id
    cross join book_ends
    where
        jobs.started_at < least(jobs.held_until_at, book_ends.ended_at)
        and {{ in_build_dates("jobs.held_until_at") }}

),

job_slices as ({{ cut_to_intervals("jobs") }}),

node_hours as (

    select
        site_id,
        slice_started_at as interval_started_at,
        round({{ sum_if_all_known("node_count * overlap_s") }} / 3600, 9) as node_hours
    from job_slices
    group by site_id, slice_started_at

),

allocations as (

    select
        contracts.contract_id,
        'node_hours' as line,
        intervals.interval_started_at,
        'node-hour' as quantity_unit,
        case
            when not coverage.is_known then null
            when node_hours.site_id is null then 0
            else node_hours.node_hours
        end as quantity
    from {{ ref("int_site_intervals") }} as intervals
    inner join contracts
        on
            intervals.site_id = contracts.site_id
            and contracts.kind = 'hpc_allocation'
            and {{ is_valid_at("contracts", "intervals.interval_started_at") }}
    inner join {{ ref("int_job_coverage") }} as coverage
        on
            intervals.site_id = coverage.site_id
            and intervals.interval_started_at = coverage.interval_started_at
    left join node_hours
        on
            intervals.site_id = node_hours.site_id
            and intervals.interval_started_at = node_hours.interval_started_at
    where {{ in_build_dates("intervals.utc_date") }}

),

lines as (

    select
        contract_id,
        line,
        interval_started_at,
        quantity_unit,
        quantity,
        contract_amount
    from commitments

    union all

    select
        contract_id,
        line,
        interval_started_at,
        quantity_unit,
        quantity,
        null as contract_amount
    from allocations

)

select
    contracts.contract_id,
    contracts.site_id,
    contracts.kind as contract_kind,
    lines.line,
    lines.interval_started_at,
    lines.interval_started_at + interval 15 minutes as interval_ended_at,
    cast(lines.interval_started_at as date) as utc_date,
    cast(lines.interval_started_at at time zone contracts.time_zone as date) as local_date,
    {{ local_month_of("lines.interval_started_at", "contracts.time_zone") }} as local_month,
    contracts.valid_from_at as terms_valid_from_at,
    cast(null as double) as metered_kwh,
    cast(null as double) as volume_mwh,
    round(lines.quantity, 12) as quantity,
    lines.quantity_unit,
    case
        when contracts.kind = 'hpc_allocation' then contracts.price_per_node_hour
        else round(lines.contract_amount / nullif(lines.quantity, 0), 9)
    end as unit_price,
    false as is_floating_price,
    cast(null as double) as contract_settlement_price_per_mwh,
    cast(null as double) as settlement_price_per_mwh,
    'none' as clause_applied,
    case
        when contracts.kind = 'hpc_allocation'
            then round({{ used_times("lines.quantity", "contracts.price_per_node_hour") }}, 9)
        else lines.contract_amount
    end as contract_amount,
    contracts.currency_code as contract_currency_code,
    coalesce(contracts.is_shadow_price, false) as is_shadow,
    cast(null as varchar) as quality
from lines
inner join contracts
    on
        lines.contract_id = contracts.contract_id
        and {{ is_valid_at("contracts", "lines.interval_started_at") }}
where {{ in_build_dates("lines.interval_started_at") }}
