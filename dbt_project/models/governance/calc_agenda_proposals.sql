{# How much of the readings behind a proposal has to be there. #}
{% set high_coverage_ratio = 0.95 %}
{% set medium_coverage_ratio = 0.8 %}

with

proposals as (

    {%- for kind in ["capacity", "workload_priority", "grid_risk", "contract", "data"] %}
    select
        {{ proposal_columns() | indent(4) }}
    from {{ ref("calc_agenda_" ~ kind) }}
    {{ "union all" if not loop.last }}
    {%- endfor %}

),

weighed as (

    select
        proposals.*,
        rules.least_weekly_worth,
        rules.least_capacity_mw,
        {{ worth_of("proposals", "organization") }} as weekly_worth
    from proposals
    cross join {{ source("raw", "organization") }} as organization
    left join {{ source("raw", "agenda_rules") }} as rules on proposals.rule_id = rules.rule_id

)

select
    rule_id || ':' || subject as proposal_id,
    {{ proposal_columns() }},
    weekly_worth,
    case
        when kind = 'data' or coverage_ratio < {{ medium_coverage_ratio }} then 'low'
        when rule_id = 'contract_expiry' or coverage_ratio >= {{ high_coverage_ratio }} then 'high'
        else 'medium'
    end as confidence,
    case
        when kind = 'data' then 'It is about what is not known.'
        when rule_id = 'contract_expiry' then 'It follows from the dates of the contract.'
        when coverage_ratio is null then 'It rests on plans and forward prices, which readings cannot confirm.'
        when coverage_ratio >= 1 then 'All readings behind it are there.'
        else {{ in_percent("coverage_ratio") }} || ' of the readings behind it are there.'
    end
    || case
        when weekly_worth is null and kind <> 'data' then ' It cannot be put in money and is ranked after what can.'
        else ''
    end as confidence_reason
from weighed
where
    case
        when least_weekly_worth is null then true
        when weekly_worth >= least_weekly_worth or capacity_mw >= least_capacity_mw then true
        -- What is not known is not too small.
        when weekly_worth is null then least_capacity_mw is null or capacity_mw is null
        else false
    end
