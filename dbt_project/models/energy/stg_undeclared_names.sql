{{ config(materialized = "view") }}

{# What a name of a raw table is, and the rule that one which nothing declares breaks. #}
{% set kinds = {
    "gpu_samples": "host",
    "node_power_samples": "host",
    "meter_readings": "meter",
    "battery_samples": "battery",
    "jobs": "cluster",
    "invoices": "contract",
} %}

select
    case source_table
        {%- for source_table, kind in kinds.items() %}
        when '{{ source_table }}' then '{{ kind }}_not_declared'
        {%- endfor %}
    end as rule_id,
    cast(null as varchar) as site_id,
    case source_table
        {%- for source_table, kind in kinds.items() %}
        when '{{ source_table }}' then '{{ "node" if kind == "host" else kind }}'
        {%- endfor %}
    end as subject_kind,
    name as subject_id,
    flow,
    started_at as interval_started_at,
    ended_at as interval_ended_at,
    cast(row_count as double) as value,
    'a name that reference data declares' as expected,
    source_file
from {{ source("raw", "undeclared_names") }}
where {{ known_at_as_of() }}
