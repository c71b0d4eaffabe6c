{{ config(materialized = "incremental", pre_hook = "{{ delete_build_dates() }}") }}

with

charged as (

    select
        charges.site_id,
        charges.charge_period_started_at as interval_started_at,
        max(charges.charge_period_ended_at) as interval_ended_at,
        charges.utc_date,
        charges.currency_code,
        coalesce({{ exact_sum("charges.unused_gpu_hours") }}, 0) > 0 as has_unused_commitment,
        coalesce(
            max(charges.effective_cost / nullif(charges.gpu_hours, 0)) filter (
                where charges.pricing_category = 'Standard'
            ),
            max(charges.list_price_per_gpu_hour)
        ) as on_demand_price_per_gpu_hour,
        {{ exact_sum("charges.effective_cost") }} / nullif({{ exact_sum("charges.gpu_hours") }}, 0)
            as average_charge_per_gpu_hour
    from {{ ref("stg_cloud_charges") }} as charges
    where
        charges.site_id is not null
        and coalesce(charges.gpu_hours, charges.unused_gpu_hours) > 0
        and {{ in_build_dates("charges.utc_date") }}
    group by charges.site_id, charges.charge_period_started_at, charges.utc_date, charges.currency_code

)

select
    charged.site_id,
    charged.interval_started_at,
    charged.interval_ended_at,
    charged.utc_date,
    cast(charged.interval_started_at at time zone sites.time_zone as date) as local_date,
    cast(date_trunc('month', charged.interval_started_at at time zone sites.time_zone) as date) as local_month,
    {{ iso_week("charged.interval_started_at at time zone organization.time_zone") }} as week,
    case when charged.has_unused_commitment then 'commitment' else 'on_demand' end as marginal_source,
    case when charged.has_unused_commitment then 0 else charged.on_demand_price_per_gpu_hour end
        as cloud_charge_per_gpu_hour,
    charged.average_charge_per_gpu_hour,
    case
        when sites.variable_cost_per_gpu_hour is null then 0
        else sites.variable_cost_per_gpu_hour * fx_rates.rate_to_reporting
    end as variable_cost_per_gpu_hour,
    charged.currency_code
from charged
inner join {{ source("raw", "sites") }} as sites
    on
        charged.site_id = sites.site_id
        and {{ is_valid_at("sites", "charged.interval_started_at") }}
cross join {{ source("raw", "organization") }} as organization
left join {{ ref("stg_fx_rates") }} as fx_rates
    on
        sites.currency_code = fx_rates.currency_code
        and charged.utc_date = fx_rates.rate_date
