with

settled as (

    select
        terms.site_id,
        settlements.interval_started_at,
        terms.node_hours
        - {{ exact_sum(
            "settlements.quantity",
            over="(partition by terms.contract_id, terms.valid_from_at order by settlements.interval_started_at)"
        ) }} as left_node_hours,
        -- What was used before the first day of the book is not known.
        settlements.quantity is not null
        and min(settlements.interval_started_at) over (partition by terms.contract_id, terms.valid_from_at)
        <= terms.valid_from_at as is_known
    from {{ source("raw", "contracts") }} as terms
    inner join {{ ref("int_commitment_settlements") }} as settlements
        on
            terms.contract_id = settlements.contract_id
            and terms.kind = 'hpc_allocation'
            and settlements.line = 'node_hours'
            and {{ is_valid_at("terms", "settlements.interval_started_at") }}

)

select
    settled.site_id,
    {{ iso_week("settled.interval_started_at at time zone organization.time_zone") }} as week,
    min(settled.left_node_hours) as left_node_hours,
    bool_and(settled.is_known) as is_known
from settled
cross join {{ source("raw", "organization") }} as organization
group by all
