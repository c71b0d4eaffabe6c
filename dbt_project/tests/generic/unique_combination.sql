{# Fails for each combination of the columns that occurs more than once: the test of a model's grain. #}
{% test unique_combination(model, columns) %}
select
    {{ columns | join(", ") }},
    count(*) as row_count
from {{ model }}
group by {{ columns | join(", ") }}
having count(*) > 1
{% endtest %}
