{#
    The rows of a raw table as known at `as_of`: of each natural key the row with the greatest (known_at,
    load_id, source_row), whatever the order in which files were loaded. `condition` narrows the scan.
#}
{% macro latest_revision(relation, key, condition="true") %}
    select *
    from {{ relation }}
    where
        {{ known_at_as_of() }}
        and {{ condition }}
    qualify row_number() over (
        partition by {{ key | join(", ") }}
        order by known_at desc, load_id desc, source_row desc
    ) = 1
{% endmacro %}

{% macro known_at_as_of() -%}
    {%- if var("as_of") -%}known_at <= timestamptz '{{ var("as_of") }}'{%- else -%}true{%- endif -%}
{%- endmacro %}
