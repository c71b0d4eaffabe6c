{# What the rules of the agenda share: how a proposal is written. #}

{# A figure within a sentence, with separators of thousands; null stays null, so that no sentence is made without it. #}
{% macro in_words(expression, decimals=0) -%} format('{:,.{{ decimals }}f}', {{ expression }}) {%- endmacro %}

{% macro in_percent(expression) -%} format('{:.0f} %', 100 * ({{ expression }})) {%- endmacro %}

{# A value as a literal of the evidence's SQL. #}
{% macro sql_literal(expression) -%} '''' || replace(cast({{ expression }} as varchar), '''', '''''') || '''' {%- endmacro %}

{# What money and CO2e are worth together, at the organization's price; money alone where CO2e is not known. #}
{% macro worth_of(proposals, organization) -%}
    {{ proposals }}.weekly_value
    + coalesce({{ proposals }}.weekly_saved_location_based_kg, 0)
    / 1000
    * {{ organization }}.carbon_price_per_tonne
{%- endmacro %}

{# The columns of a proposal, in one order for all rules. #}
{% macro proposal_columns() -%}
    week,
    rule_id,
    subject,
    kind,
    owner,
    site_id,
    workload_id,
    contract_id,
    incident_id,
    title,
    proposal,
    inaction,
    weekly_value,
    capacity_mw,
    weekly_saved_location_based_kg,
    coverage_ratio,
    evidence_sql,
    is_confidential,
    currency_code
{%- endmacro %}

{#
    The proposals of all rules of a kind. Each rule has the columns of a proposal, but for those of `given`: what they
    are for all of its rules alike.
#}
{% macro proposals_of(rules, given) %}
    {%- for rule in rules %}
    select
        {%- for column in proposal_columns().split(",") | map("trim") %}
        {{ given[column] ~ " as " if column in given }}{{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from {{ rule }}
    {{ "union all" if not loop.last }}
    {%- endfor %}
{% endmacro %}

{#
    The proposals a reader may see, at most seven a week: first what says which figures not to trust, then by worth, and
    what cannot be put in money by power.
#}
{% macro ranked_proposals(condition) %}
    select
        week,
        row_number() over (
            partition by week
            order by
                kind = 'data' desc, weekly_worth desc nulls last, capacity_mw desc nulls last, proposal_id
        ) as rank,
        proposal_id,
        rule_id,
        kind,
        owner,
        site_id,
        workload_id,
        contract_id,
        incident_id,
        title,
        proposal,
        inaction,
        weekly_worth,
        weekly_value,
        capacity_mw,
        weekly_saved_location_based_kg,
        confidence,
        confidence_reason,
        coverage_ratio,
        evidence_sql,
        is_confidential,
        currency_code
    from {{ ref("calc_agenda_proposals") }}
    where {{ condition }}
    qualify rank <= 7
{% endmacro %}
