{#
    A model's schema is its layer, which the first part of its name says; what anybody else may read of it, see
    dbt_project.yml. Without the target's name before it.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set layers = {"stg": "staging", "int": "intermediate", "calc": "calculations"} -%}
    {%- if node.resource_type == "model" -%} {{ layers.get(node.name.split("_")[0], "marts") }}
    {%- else -%} {{ custom_schema_name or target.schema }}
    {%- endif -%}
{%- endmacro %}
