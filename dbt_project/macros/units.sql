{#
    Unit conversions and the book's rounding, each in one place.

    Sums of floats depend on the order of their terms in the last bits, and files load in any order. Energies
    are therefore rounded when staged: 1e-6 kWh is far below what any meter resolves, and makes results
    identical byte for byte. For the same reason a sum is rounded before it is divided: a rounded mean may lie on the
    edge between two roundings, a rounded sum of rounded terms does not.
#}
{% macro round_kwh(expression) -%} round({{ expression }}, 6) {%- endmacro %}

{% macro to_kwh(quantity, unit) -%}
    {{ quantity }} * case {{ unit }} when 'Wh' then 0.001 when 'kWh' then 1 when 'MWh' then 1000 end
{%- endmacro %}

{% macro kwh_to_mwh(expression) -%} ({{ expression }}) / 1000 {%- endmacro %}

{% macro kw_to_mw(expression) -%} ({{ expression }}) / 1000 {%- endmacro %}

{# Mean power over one interval of the book's 15-minute grain. #}
{% macro interval_kwh_to_kw(expression) -%} ({{ expression }}) * 4 {%- endmacro %}

{# Energy of constant power over one interval of the book's 15-minute grain. #}
{% macro interval_mw_to_mwh(expression) -%} ({{ expression }}) / 4 {%- endmacro %}

{# ISO week of a local timestamp or date as 2026-W40. #}
{% macro iso_week(expression) -%} strftime({{ expression }}, '%G-W%V') {%- endmacro %}
