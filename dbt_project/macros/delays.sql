{# The delays that work may be put off by, in hours: the best of them is looked for. #}
{% macro delay_hours() -%}
    {{ return([1, 2, 3, 4, 6, 8, 12, 18, 24, 36, 48, 72, 96, 120, 144, 168]) }}
{%- endmacro %}
