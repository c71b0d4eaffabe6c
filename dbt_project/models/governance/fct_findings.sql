{#
    The models in which data breaks a rule, one row per reading, sample or day that does, and what in them names the
    file it came in.
#}
{% set found = {
    "int_meter_findings": "source_file",
    "int_register_findings": "source_file",
    "int_battery_findings": "source_file",
    "int_node_findings": none,
    "int_job_findings": "source_file",
    "int_price_findings": none,
    "int_cloud_findings": "source_file",
    "stg_undeclared_names": "source_file",
} %}
{% set of_meters = ("int_meter_findings", "int_register_findings", "stg_undeclared_names") %}

with

rules as (

    {% for rule in var("finding_rules") -%}
    select
        '{{ rule["rule_id"] }}' as rule_id,
        '{{ rule["source_table"] }}' as source_table,
        {% if rule["unit"] %}'{{ rule["unit"] }}'{% else %}cast(null as varchar){% endif %} as unit,
        {{ rule["is_withheld"] | lower }} as is_withheld,
        '{{ rule["mend"] | replace("'", "''") }}' as mend
    {{ "union all" if not loop.last }}
    {% endfor %}

),

broken as (

    {% for model, source_file in found.items() -%}
    select
        rule_id,
        site_id,
        subject_kind,
        subject_id,
        {{ "flow" if model in of_meters else "cast(null as varchar)" }} as flow,
        interval_started_at,
        interval_ended_at,
        value,
        expected,
        {{ source_file or "cast(null as varchar)" }} as source_file
    from {{ ref(model) }}

    union all

    {% endfor -%}
    select
        'price_index_missing' as rule_id,
        contracts.site_id,
        'contract' as subject_kind,
        prices.contract_id as subject_id,
        null as flow,
        prices.started_at as interval_started_at,
        prices.ended_at as interval_ended_at,
        null as value,
        prices.escalation_index || ' of ' || strftime(prices.index_month, '%Y-%m') || ' in price_indices.csv'
            as expected,
        null as source_file
    from {{ ref("int_contract_prices") }} as prices
    inner join {{ ref("dim_contracts") }} as contracts
        on
            prices.contract_id = contracts.contract_id
            and prices.terms_valid_from_at = contracts.valid_from_at
    where prices.escalation_ratio is null

),

-- What follows on from one another is one finding.
numbered as ({{ number_spans("broken", ["rule_id", "site_id", "subject_kind", "subject_id", "flow"]) }}),

-- Before its first reading a meter has no gap, and what may only not have come yet is none for a day.
meters as (

    select
        meter_id,
        flow,
        min(first_reading_at) as first_reading_at,
        max(last_reading_at) as last_reading_at
    from {{ ref("dim_meters") }}
    group by meter_id, flow

),

findings as (

    select
        rule_id,
        site_id,
        subject_kind,
        subject_id,
        flow,
        min(interval_started_at) as started_at,
        case when count(interval_ended_at) = count(*) then max(interval_ended_at) end as ended_at,
        count(*) as occurrence_count,
        arg_max(value, (abs(value), interval_started_at)) as value,
        arg_max(expected, (abs(coalesce(value, 0)), interval_started_at)) as expected,
        list_sort(list(distinct source_file) filter (where source_file is not null)) as source_files
    from numbered
    group by rule_id, site_id, subject_kind, subject_id, flow, span_number

)

select
    findings.rule_id,
    rules.source_table,
    findings.site_id,
    findings.subject_kind,
    findings.subject_id,
    findings.flow,
    findings.started_at,
    findings.ended_at,
    findings.occurrence_count,
    findings.value as found_quantity,
    rules.unit as found_quantity_unit,
    findings.expected,
    rules.is_withheld,
    findings.source_files,
    rules.mend
from findings
inner join rules on findings.rule_id = rules.rule_id
left join meters
    on
        findings.subject_kind = 'meter'
        and findings.subject_id = meters.meter_id
        and findings.flow = meters.flow
where
    findings.rule_id <> 'meter_gap'
    or meters.first_reading_at is null
    or (findings.started_at >= meters.first_reading_at and findings.ended_at <= meters.last_reading_at)
    or (
        findings.started_at >= meters.last_reading_at
        and findings.ended_at - findings.started_at > interval 1 day
    )
