{{ config(materialized = "incremental", meta = {"day": "utc_date"}) }}

with

-- Usage of machines with GPUs; a correction of money alone has a cost and no hours. What lasts into the window counts.
charges as (

    select
        site_id,
        sku_id,
        pricing_category = 'Standard' as is_on_demand,
        charge_period_started_at,
        charge_period_ended_at,
        epoch(charge_period_ended_at - charge_period_started_at) as duration_s,
        gpu_hours,
        unused_gpu_hours,
        effective_cost,
        list_price_per_gpu_hour,
        currency_code
    from {{ ref("stg_cloud_charges") }}
    where
        site_id is not null
        and coalesce(gpu_hours, unused_gpu_hours) is not null
        and charge_period_ended_at > charge_period_started_at
        and {{ in_build_dates("charge_period_ended_at") }}

),

-- Bills are by the hour, the day or longer, of one venue too: each time at which a charge of hours begins or ends is a
-- border, and between two of them every charge is spread evenly.
borders as (

    select
        site_id,
        charge_period_started_at as border_at
    from charges
    where gpu_hours <> 0 or unused_gpu_hours <> 0

    union

    select
        site_id,
        charge_period_ended_at as border_at
    from charges
    where gpu_hours <> 0 or unused_gpu_hours <> 0

),

spans as (

    select
        site_id,
        border_at as interval_started_at,
        lead(border_at) over (partition by site_id order by border_at) as interval_ended_at
    from borders

),

shares as (

    select
        spans.site_id,
        spans.interval_started_at,
        spans.interval_ended_at,
        charges.sku_id,
        charges.is_on_demand,
        charges.list_price_per_gpu_hour,
        charges.currency_code,
        epoch(
            least(charges.charge_period_ended_at, spans.interval_ended_at)
            - greatest(charges.charge_period_started_at, spans.interval_started_at)
        ) / charges.duration_s as share_ratio,
        charges.gpu_hours * share_ratio as gpu_hours,
        charges.unused_gpu_hours * share_ratio as unused_gpu_hours,
        charges.effective_cost * share_ratio as effective_cost
    from spans
    inner join charges
        on
            spans.site_id = charges.site_id
            and spans.interval_started_at < charges.charge_period_ended_at
            and spans.interval_ended_at > charges.charge_period_started_at

),

skus as (

    select
        site_id,
        interval_started_at,
        interval_ended_at,
        currency_code,
        coalesce({{ exact_sum("gpu_hours") }}, 0) as gpu_hours,
        coalesce({{ exact_sum("unused_gpu_hours") }}, 0) as unused_gpu_hours,
        {{ sum_if_all_known("effective_cost") }} as effective_cost,
        {{ sum_if_all_known("effective_cost", condition="is_on_demand") }}
        / nullif({{ exact_sum("gpu_hours", "is_on_demand") }}, 0) as on_demand_price_per_gpu_hour,
        max(list_price_per_gpu_hour) as list_price_per_gpu_hour
    from shares
    group by site_id, interval_started_at, interval_ended_at, currency_code, sku_id

),

charged as (

    select
        site_id,
        interval_started_at,
        interval_ended_at,
        cast(interval_started_at as date) as utc_date,
        currency_code,
        sum(unused_gpu_hours) > 0 as has_unused_commitment,
        coalesce(max(on_demand_price_per_gpu_hour), max(list_price_per_gpu_hour)) as on_demand_price_per_gpu_hour,
        {{ sum_if_all_known("effective_cost") }} / nullif({{ exact_sum("gpu_hours") }}, 0)
            as average_charge_per_gpu_hour
    from skus
    group by site_id, interval_started_at, interval_ended_at, currency_code
    having sum(gpu_hours + unused_gpu_hours) > 0

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
where {{ in_build_dates("charged.utc_date") }}
