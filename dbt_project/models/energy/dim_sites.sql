with

node_totals as (

    select
        site_id,
        count(hostname) as node_count,
        cast(sum(gpu_count) as bigint) as gpu_count,
        string_agg(distinct gpu_model, ', ' order by gpu_model) as gpu_models
    from {{ source("raw", "nodes") }}
    group by site_id

),

site_contracts as (

    select
        site_id,
        bool_and(are_prices_public) as have_public_prices
    from {{ source("raw", "contracts") }}
    group by site_id

)

select
    sites.site_id,
    sites.name,
    sites.venue_kind,
    sites.country_code,
    sites.time_zone,
    sites.bidding_zone,
    sites.price_market,
    sites.price_sequence,
    sites.carbon_zone,
    sites.currency_code as site_currency_code,
    sites.valid_from_at,
    sites.valid_to_at,
    coalesce(node_totals.node_count, 0) as node_count,
    coalesce(node_totals.gpu_count, 0) as gpu_count,
    node_totals.gpu_models,
    sites.grid_firm_mw,
    sites.grid_non_firm_mw,
    sites.electrical_limit_mw,
    sites.cooling_limit_mw,
    sites.it_capacity_mw,
    sites.design_pue as design_pue_ratio,
    sites.local_committed_mw,
    sites.is_local_islandable,
    sites.sustain_hours,
    coalesce(site_contracts.have_public_prices, false) as has_public_prices
from {{ source("raw", "sites") }} as sites
left join node_totals on sites.site_id = node_totals.site_id
left join site_contracts on sites.site_id = site_contracts.site_id
