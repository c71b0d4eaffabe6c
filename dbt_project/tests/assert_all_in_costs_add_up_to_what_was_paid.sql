-- Over all rows of a site and local date, what contracts charged stands in the all-in cost once, and the cost that left
-- the batteries is taken by work and given by the stock. What a battery gave at a cost that is not known leaves the
-- day's all-in cost unknown, and work that nothing could be given to has none. Rounded day sums of up to 96 intervals:
-- a hundredth of a cent.
with

paid as (

    select
        site_id,
        local_date,
        sum(paid_cost) as cost,
        count(paid_cost) = count(*) and count(discharge_cost) = count(*) as is_settled
    from {{ ref("calc_paid_costs") }}
    where {{ in_build_dates("local_date", days_before=1) }}
    group by site_id, local_date

),

all_in as (

    select
        site_id,
        local_date,
        sum(all_in_energy_cost) as cost
    from {{ ref("fct_all_in_costs") }}
    where {{ in_build_dates("local_date", days_before=1) }}
    group by site_id, local_date

)

select
    paid.site_id,
    paid.local_date,
    paid.cost as paid_cost,
    all_in.cost as all_in_energy_cost
from paid
left join all_in
    on
        paid.site_id = all_in.site_id
        and paid.local_date = all_in.local_date
where
    paid.is_settled
    and (all_in.site_id is null or abs(paid.cost - coalesce(all_in.cost, 0)) > 0.0001)
