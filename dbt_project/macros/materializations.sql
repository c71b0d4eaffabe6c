{#
    How models are written. DuckDB's transactions replace a table, or days of it, in one statement each: no table is
    built beside it, renamed or asked for its columns, which is most of what dbt's own ways of doing it cost. A change of the
    project rebuilds everything (`pipelines/warehouse/planning.py`), so that columns are always those of the query.
#}
{% materialization table, adapter="duckdb" %}
    {%- set relation = this.incorporate(type="table") -%}
    {{ drop_view_of_same_name() }}
    {{ run_hooks(pre_hooks) }}
    {% call statement("main") %}create or replace table {{ relation }} as ({{ compiled_code }}){% endcall %}
    {{ run_hooks(post_hooks) }}
    {% do adapter.commit() %}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}

{# The pre-hook takes out the days that the query gives anew. #}
{% materialization incremental, adapter="duckdb" %}
    {%- set relation = this.incorporate(type="table") -%}
    {{ drop_view_of_same_name() }}
    {{ run_hooks(pre_hooks) }}
    {% call statement("main") %}
        {% if is_incremental() %}insert into {{ relation }} by name ({{ compiled_code }})
        {% else %}create or replace table {{ relation }} as ({{ compiled_code }})
        {% endif %}
    {% endcall %}
    {{ run_hooks(post_hooks) }}
    {% do adapter.commit() %}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}

{% macro drop_view_of_same_name() %}
    {%- set existing = load_cached_relation(this) -%}
    {%- if existing is not none and existing.is_view -%}{% do adapter.drop_relation(existing) %}{%- endif -%}
{% endmacro %}
