with

months as (

    select *
    from {{ ref("int_sourcing_months") }}

),

-- Power under each version of a site's terms in the month.
site_terms as (

    select
        months.site_id,
        months.local_month,
        {{ hours_in_force("sites", "months") }} as hours,
        sites.design_pue as design_pue_ratio,
        sites.grid_firm_mw,
        sites.local_committed_mw,
        sites.electrical_limit_mw,
        least(sites.grid_firm_mw + sites.local_committed_mw, sites.electrical_limit_mw) as secured_mw,
        capacity_plan.committed_it_mw,
        capacity_plan.planned_it_mw,
        capacity_plan.utilization_ratio,
        capacity_plan.committed_it_mw * sites.design_pue as committed_mw
    from months
    inner join {{ source("raw", "sites") }} as sites
        on
            months.site_id = sites.site_id
            and {{ is_in_force_in("sites", "months") }}
    left join {{ source("raw", "capacity_plan") }} as capacity_plan
        on
            months.site_id = capacity_plan.site_id
            and months.local_month = capacity_plan.month
    where months.venue_kind <> 'public_cloud'

),

-- Debt under each version by itself: what is spare after an expansion does not make good what was missing before.
site_power as (

    select
        site_id,
        local_month,
        {{ exact_sum("hours") }} as terms_hours,
        any_value(committed_it_mw) as committed_it_mw,
        any_value(planned_it_mw) as planned_it_mw,
        any_value(utilization_ratio) as utilization_ratio,
        round({{ weighted_mean("design_pue_ratio", "hours") }}, 9) as design_pue_ratio,
        round({{ weighted_mean("committed_mw", "hours") }}, 9) as committed_mw,
        round({{ weighted_mean("grid_firm_mw", "hours") }}, 9) as firm_mw,
        round({{ weighted_mean("local_committed_mw", "hours") }}, 9) as storage_mw,
        round({{ weighted_mean("electrical_limit_mw", "hours") }}, 9) as electrical_limit_mw,
        round({{ weighted_mean("secured_mw", "hours") }}, 9) as secured_mw,
        round({{ weighted_mean("greatest(committed_mw - secured_mw, 0)", "hours") }}, 9) as energy_debt_mw,
        round({{ weighted_mean("greatest(committed_mw * utilization_ratio - secured_mw, 0)", "hours") }}, 9)
            as expected_debt_mw
    from site_terms
    group by site_id, local_month

),

cloud_power as (

    select
        months.site_id,
        months.local_month,
        {{ kw_to_mw(
            exact_sum(
                hours_in_force("contracts", "months")
                ~ " / months.month_hours * contracts.gpu_count * contracts.kw_per_gpu"
            )
        ) }} as committed_mw
    from months
    inner join {{ source("raw", "contracts") }} as contracts
        on
            months.site_id = contracts.site_id
            and contracts.kind = 'cloud_commitment'
            and {{ is_in_force_in("contracts", "months") }}
    group by months.site_id, months.local_month

),

contracted as (

    select
        site_id,
        local_month,
        {{ sum_if_all_known("expected_p50_mwh", condition="is_delivered", empty=0) }} as contract_p50_mwh,
        {{ sum_if_all_known("expected_p90_mwh", condition="is_delivered", empty=0) }} as contract_p90_mwh,
        {{ sum_if_all_known("fixed_price_p50_mwh") }}
            as fixed_price_p50_mwh
    from {{ ref("int_expected_contract_volumes") }}
    group by site_id, local_month

),

-- A tariff has a row for each of its windows.
fixed_tariffs as (

    select distinct
        contract_id,
        site_id,
        valid_from_at,
        valid_to_at
    from {{ source("raw", "tariffs") }}
    where price_basis in ('flat', 'time_of_use')

),

fixed_tariff_hours as (

    select
        months.site_id,
        months.local_month,
        {{ exact_sum(hours_in_force("fixed_tariffs", "months")) }} as hours
    from months
    inner join fixed_tariffs
        on
            months.site_id = fixed_tariffs.site_id
            and {{ is_in_force_in("fixed_tariffs", "months") }}
    group by months.site_id, months.local_month

),

actual as (

    select
        site_id,
        local_month,
        count(consumption_kwh) as read_interval_count,
        {{ kwh_to_mwh(exact_sum("consumption_kwh")) }} as read_mwh
    from {{ ref("fct_energy_balance") }}
    group by site_id, local_month

),

-- Of each currency the newest rate the book's data reaches; what lies ahead has none of its own.
newest_rates as (

    select
        rates.currency_code,
        max(rates.rate_date) as exchange_rate_date,
        arg_max(rates.rate_to_reporting, rates.rate_date) as exchange_rate
    from {{ ref("stg_fx_rates") }} as rates
    where rates.rate_date <= (select max(months.newest_date) from months)
    group by rates.currency_code

),

joined as (

    select
        months.site_id,
        months.local_month,
        months.month_kind,
        months.month_hours,
        months.venue_kind = 'public_cloud' as is_cloud,
        coalesce(site_power.terms_hours = months.month_hours, false) as has_terms,
        site_power.committed_it_mw,
        site_power.planned_it_mw,
        site_power.utilization_ratio,
        site_power.design_pue_ratio,
        site_power.committed_mw as site_committed_mw,
        site_power.firm_mw,
        site_power.storage_mw,
        site_power.electrical_limit_mw,
        site_power.secured_mw as site_secured_mw,
        site_power.energy_debt_mw as site_energy_debt_mw,
        site_power.expected_debt_mw as site_expected_debt_mw,
        coalesce(cloud_power.committed_mw, 0) as cloud_mw,
        -- No contract in force: nothing contracted. One that states no volume: not known.
        case when contracted.site_id is null then 0 else contracted.contract_p50_mwh end as contract_p50_mwh,
        case when contracted.site_id is null then 0 else contracted.contract_p90_mwh end as contract_p90_mwh,
        case when contracted.site_id is null then 0 else contracted.fixed_price_p50_mwh end as fixed_price_p50_mwh,
        coalesce(fixed_tariff_hours.hours, 0) / months.month_hours as fixed_tariff_ratio,
        actual.read_mwh,
        coalesce(actual.read_interval_count, 0) / (months.month_hours * 4) as read_ratio,
        forward_prices.price_per_mwh as own_currency_forward_price,
        forward_prices.price_per_mwh * newest_rates.exchange_rate as forward_price_per_mwh,
        newest_rates.exchange_rate_date,
        organization.reporting_currency as currency_code
    from months
    cross join {{ source("raw", "organization") }} as organization
    left join site_power
        on
            months.site_id = site_power.site_id
            and months.local_month = site_power.local_month
    left join cloud_power
        on
            months.site_id = cloud_power.site_id
            and months.local_month = cloud_power.local_month
    left join contracted
        on
            months.site_id = contracted.site_id
            and months.local_month = contracted.local_month
    left join fixed_tariff_hours
        on
            months.site_id = fixed_tariff_hours.site_id
            and months.local_month = fixed_tariff_hours.local_month
    left join actual
        on
            months.site_id = actual.site_id
            and months.local_month = actual.local_month
    left join {{ source("raw", "forward_prices") }} as forward_prices
        on
            months.bidding_zone = forward_prices.zone
            and months.local_month = forward_prices.month
    left join newest_rates on forward_prices.currency_code = newest_rates.currency_code

),

-- A month for a part of which no terms are known has no power; a cloud's provider sees to its own.
powered as (

    select
        *,
        case when is_cloud then cloud_mw when has_terms then site_committed_mw end as committed_mw,
        case when is_cloud then cloud_mw when has_terms then site_secured_mw end as secured_mw,
        case
            when is_cloud then 0
            when has_terms and site_committed_mw is not null then site_energy_debt_mw
        end as energy_debt_mw,
        case
            when is_cloud then 0
            when has_terms and site_committed_mw is not null then site_expected_debt_mw
        end as expected_debt_mw
    from joined

),

consuming as (

    select
        *,
        round(committed_mw * utilization_ratio * month_hours, 6) as expected_consumption_mwh,
        case when not is_cloud then round(expected_debt_mw * month_hours, 6) end as energy_debt_mwh
    from powered

),

covered as (

    select
        *,
        case
            when contract_p50_mwh >= expected_consumption_mwh then 0
            else round(expected_consumption_mwh - contract_p50_mwh, 6)
        end as open_p50_mwh,
        case
            when contract_p90_mwh >= expected_consumption_mwh then 0
            else round(expected_consumption_mwh - contract_p90_mwh, 6)
        end as open_p90_mwh,
        case
            when fixed_price_p50_mwh >= expected_consumption_mwh then 1
            else fixed_price_p50_mwh / nullif(expected_consumption_mwh, 0)
        end as fixed_contract_ratio
    from consuming

)

select
    site_id,
    local_month,
    month_kind,
    month_hours,
    case when is_cloud then 'provider' else 'connection' end as secured_by,
    is_cloud as is_power_estimate,
    case when not is_cloud then committed_it_mw end as committed_it_mw,
    case when not is_cloud then planned_it_mw end as planned_it_mw,
    case when has_terms then design_pue_ratio end as design_pue_ratio,
    committed_mw,
    case when has_terms then round(planned_it_mw * design_pue_ratio, 9) end as planned_mw,
    case when has_terms then firm_mw end as firm_mw,
    case when has_terms then storage_mw end as storage_mw,
    case when has_terms then electrical_limit_mw end as electrical_limit_mw,
    secured_mw,
    energy_debt_mw,
    expected_debt_mw,
    min(case when energy_debt_mw > 0 then local_month end) over (partition by site_id) as first_debt_month,
    -- Against the first month in which both are known.
    round(
        committed_mw
        - arg_min(committed_mw, case when committed_mw is not null then local_month end) over (partition by site_id),
        9
    ) as committed_added_mw,
    round(
        secured_mw
        - arg_min(secured_mw, case when committed_mw is not null then local_month end) over (partition by site_id),
        9
    ) as secured_added_mw,
    utilization_ratio,
    expected_consumption_mwh,
    case when not is_cloud and read_ratio = 1 then read_mwh end as actual_consumption_mwh,
    round(read_mwh / nullif(read_ratio * month_hours, 0), 9) as mean_actual_mw,
    case when not is_cloud and month_kind <> 'future' then read_ratio end as actual_coverage_ratio,
    case when not is_cloud then contract_p50_mwh end as contract_p50_mwh,
    case when not is_cloud then contract_p90_mwh end as contract_p90_mwh,
    contract_p50_mwh / nullif(expected_consumption_mwh, 0) as volume_cover_p50_ratio,
    contract_p90_mwh / nullif(expected_consumption_mwh, 0) as volume_cover_p90_ratio,
    case
        -- Whatever no contract covers is bought at the tariff's price, which then is known too.
        when fixed_tariff_ratio >= 1 and expected_consumption_mwh is not null then 1
        else round(fixed_contract_ratio + (1 - fixed_contract_ratio) * fixed_tariff_ratio, 9)
    end as price_cover_ratio,
    energy_debt_mwh,
    open_p50_mwh,
    open_p90_mwh,
    round(forward_price_per_mwh, 9) as forward_price_per_mwh,
    exchange_rate_date,
    round(energy_debt_mwh * forward_price_per_mwh, 9) as energy_debt_cost,
    round(open_p50_mwh * forward_price_per_mwh, 9) as open_p50_cost,
    round(open_p90_mwh * forward_price_per_mwh, 9) as open_p90_cost,
    currency_code,
    case
        when is_cloud then 'none'
        else coalesce(
            nullif(
                concat_ws(
                    ', ',
                    case when not has_terms then 'site_terms' end,
                    case when committed_it_mw is null then 'capacity_plan' end,
                    case when contract_p50_mwh is null or contract_p90_mwh is null then 'contract_volume' end,
                    case when own_currency_forward_price is null then 'forward_price' end,
                    case
                        when own_currency_forward_price is not null and exchange_rate_date is null
                            then 'exchange_rate'
                    end
                ),
                ''
            ),
            'none'
        )
    end as missing_inputs
from covered
