{#
    The rows of a raw table as known at `as_of`: of each natural key the newest row. `newest_first` says what of a row
    tells that, before its time of publication and the order of loading; `condition` narrows the scan.
#}
{% macro latest_revision(relation, key, condition="true", newest_first=[]) %}
    select *
    from {{ relation }}
    where
        {{ known_at_as_of() }}
        and {{ condition }}
    qualify row_number() over (
        partition by {{ key | join(", ") }}
        order by {{ (newest_first + [by_revision()]) | join(", ") }}
    ) = 1
{% endmacro %}

{#
    Since when a row is the newest: the source's own time of publication, else the time its file was first loaded;
    never a time of the file, which a copy changes.
#}
{% macro revised_at(relation="") -%}
    {%- set of = relation ~ "." if relation else "" -%}
    coalesce({{ of }}loaded_at, {{ of }}known_at)
{%- endmacro %}

{# The order of revisions, the newest first; what was loaded at once follows the names of its files. #}
{% macro by_revision() -%} {{ revised_at() }} desc, load_number desc, source_row desc {%- endmacro %}

{% macro known_at_as_of() -%}
    {%- if var("as_of") -%}known_at <= timestamptz '{{ var("as_of") }}'{%- else -%}true{%- endif -%}
{%- endmacro %}
