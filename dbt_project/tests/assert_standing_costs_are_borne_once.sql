-- Depreciation and operations of a site and day stand in the all-in cost once, whoever bears them.
with

standing as (

    select
        site_id,
        local_date,
        sum(cost) as cost
    from {{ ref("int_standing_costs") }}
    group by site_id, local_date

),

all_in as (

    select
        site_id,
        local_date,
        sum(depreciation_cost + operations_cost) as cost
    from {{ ref("fct_all_in_costs") }}
    group by site_id, local_date

)

select
    standing.site_id,
    standing.local_date,
    standing.cost as standing_cost,
    all_in.cost as all_in_cost
from standing
left join all_in
    on
        standing.site_id = all_in.site_id
        and standing.local_date = all_in.local_date
where
    all_in.site_id is null
    or abs(standing.cost - all_in.cost) > 0.0001
