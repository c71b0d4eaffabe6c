{# Whether a version of reference terms is in force at any time of a row of int_sourcing_months. #}
{% macro is_in_force_in(terms, months) -%}
    coalesce({{ terms }}.valid_from_at, timestamptz '-infinity') < {{ months }}.month_ended_at
    and coalesce({{ terms }}.valid_to_at, timestamptz 'infinity') > {{ months }}.month_started_at
{%- endmacro %}

{# Since when it is in force in that month, and until when. #}
{% macro in_force_from(terms, months) -%}
    greatest(coalesce({{ terms }}.valid_from_at, {{ months }}.month_started_at), {{ months }}.month_started_at)
{%- endmacro %}

{% macro in_force_until(terms, months) -%}
    least(coalesce({{ terms }}.valid_to_at, {{ months }}.month_ended_at), {{ months }}.month_ended_at)
{%- endmacro %}

{% macro hours_in_force(terms, months) -%}
    {{ hours_between(in_force_from(terms, months), in_force_until(terms, months)) }}
{%- endmacro %}

{# True hours between two instants, so that the days on which clocks change come out right. #}
{% macro hours_between(started_at, ended_at) -%}
    epoch({{ ended_at }} - {{ started_at }}) / 3600
{%- endmacro %}
