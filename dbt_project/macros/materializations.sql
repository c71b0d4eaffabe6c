{#
    How models are written. DuckDB's transactions replace a table, or days of it, in one statement each: no table is
    built beside it, renamed or asked for its columns, which is most of what dbt's own ways of doing it cost. A change
    of the project rebuilds everything (`pipelines/warehouse/planning.py`), so that columns are always those of the
    query.
#}
{% materialization table, adapter="duckdb" %}{{ return(write_model()) }}{% endmaterialization %}

{# The pre-hook takes out the days that the query gives anew. #}
{% materialization incremental, adapter="duckdb" %}{{ return(write_model()) }}{% endmaterialization %}

{% macro write_model() %}
    {%- set relation = this.incorporate(type="table") -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- if existing is not none and existing.is_view -%}{% do adapter.drop_relation(existing) %}{%- endif -%}
    {{ run_hooks(pre_hooks) }}
    {% call statement("main") %}
        {% if is_incremental() %}insert into {{ relation }} by name ({{ compiled_code }})
        {% else %}create or replace table {{ relation }} as ({{ compiled_code }})
        {% endif %}
    {% endcall %}
    {{ run_hooks(post_hooks) }}
    {% do adapter.commit() %}
    {{ return({"relations": [relation]}) }}
{% endmacro %}
