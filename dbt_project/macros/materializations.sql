{#
    How models are written. DuckDB's transactions replace a table, or days of it, in one statement each: no table is
    built beside it, renamed or asked for its columns, which is most of what dbt's own ways of doing it cost. A change
    of the project rebuilds everything (`pipelines/warehouse/planning.py`), so that columns are always those of the
    query.
#}
{% materialization table, adapter="duckdb" %}{{ return(write_model()) }}{% endmaterialization %}

{# What the query gives anew is taken out before, as the model's meta says (`build_window.sql`) or by a hook of its own. #}
{% materialization incremental, adapter="duckdb" %}{{ return(write_model()) }}{% endmaterialization %}

{% macro write_model() %}
    {%- set relation = this.incorporate(type="table") -%}
    {%- set meta = config.get("meta", {}) -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- if existing is not none and existing.is_view -%}{% do adapter.drop_relation(existing) %}{%- endif -%}
    {{ run_hooks(pre_hooks) }}
    {% call statement("main") %}
        {% if is_incremental() and not meta.is_rewritten %}
        {%- if meta.day or meta.week or meta.month %}
        delete from {{ relation }} where {{ in_build_window(meta) }};
        {%- endif %}
        insert into {{ relation }} by name ({{ compiled_code }})
        {% else %}create or replace table {{ relation }} as ({{ compiled_code }})
        {% endif %}
    {% endcall %}
    {{ run_hooks(post_hooks) }}
    {% do adapter.commit() %}
    {{ return({"relations": [relation]}) }}
{% endmacro %}
