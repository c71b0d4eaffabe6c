{#
    The test of what a model's .yml says of its rows, in one statement: the `constraints` of the model and of its
    columns. Gives each that is broken and how many rows break it. A key holds where no combination of its
    columns occurs twice, nulls being alike, and a primary key where none of them is null either. A check holds where
    it is not false. Of a model that is built by parts, what the run gave anew is tested: every key has its day, week
    or month in it.
#}
{% test constraints(model) %}
{{- config(fail_calc = "coalesce(sum(row_count), 0)") -}}
{%- set keys, rules = [], [] -%}
{%- if execute -%}
    {%- set declared = graph.nodes["model." ~ project_name ~ "." ~ model.identifier] -%}
    {%- set within = in_build_window(declared.config.meta or {}) -%}
    {%- for constraint in declared.constraints -%}
        {%- do keys.append(constraint.columns | join(", ")) -%}
        {%- for column in constraint.columns if constraint.type == "primary_key" -%}
            {%- do rules.append(column ~ " is not null") -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- for column in declared.columns.values() -%}
        {%- for constraint in column.constraints -%}
            {%- do rules.append(constraint.expression or column.name ~ " is not null") -%}
        {%- endfor -%}
    {%- endfor -%}
{%- endif -%}
with

counted as (

    select
        unnest([{% for rule in rules %}'{{ rule | replace("'", "''") }}', {% endfor %}]) as broken_constraint,
        unnest([{% for rule in rules %}count(*) filter (where not ({{ rule }})), {% endfor %}]) as row_count
    from {{ model }}
    where {{ within }}
{% for key in keys %}
    union all
    select
        '{{ key }} is unique',
        sum(key_count)
    from (select count(*) as key_count from {{ model }} where {{ within }} group by {{ key }} having key_count > 1)
    {% endfor %}

)

select *
from counted
where row_count > 0
{% endtest %}
