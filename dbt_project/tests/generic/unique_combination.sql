{#
    The test of a model's grain: fails for each combination of the key columns that occurs more than once, or that
    lacks one of them. A key column that may be null is named in `nullable_columns` too.
#}
{% test unique_combination(model, columns, nullable_columns=[]) %}
select
    {{ columns | join(", ") }},
    count(*) as row_count
from {{ model }}
group by {{ columns | join(", ") }}
having
    {% for column in columns if column not in nullable_columns -%}
    {{ column }} is null
    or {% endfor -%}
    count(*) > 1
{% endtest %}
