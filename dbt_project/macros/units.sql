{#
    Unit conversions, the book's rounding and its sums, each in one place.

    Energies are rounded when staged: 1e-6 kWh is far below what any meter resolves.
#}
{% macro round_kwh(expression) -%} round({{ expression }}, 6) {%- endmacro %}

{#
    The sum of floats: the same to the last bit in whatever order the rows come. A sum of doubles depends on the order
    of its terms, and files load and threads finish in any; to round it does not help, for it may lie on the edge
    between two roundings. Decimals add up exactly, so each term is made one of `decimals` decimals. Null where no term
    is known. A term that is no number or infinite stops the build. `condition` narrows the rows; `over` makes it a
    window's sum.
#}
{% macro exact_sum(expression, condition=none, over=none, decimals=12) -%}
    cast(
        sum(cast({{ expression }} as decimal(38, {{ decimals }})))
        {%- if condition is not none %} filter (where {{ condition }}){% endif %}
        {%- if over is not none %} over {{ over }}{% endif %} as double
    )
{%- endmacro %}

{#
    An aggregate where every value it is made of is known, else null: a part never stands for the whole. `of` is the
    number of values there should be, by default the number of rows.
#}
{% macro if_all_known(expression, value, of="count(*)") -%}
    case when count({{ expression }}) = {{ of }} then {{ value }} end
{%- endmacro %}

{#
    `exact_sum` where every term is known. `known` is what must be known where that is not the term as it stands,
    `empty` the sum of no rows at all, which is null else.
#}
{% macro sum_if_all_known(expression, known=none, of="count(*)", condition=none, over=none, empty=none) -%}
    {%- set rows -%}
        {%- if condition is not none %} filter (where {{ condition }}){% endif %}
        {%- if over is not none %} over {{ over }}{% endif %}
    {%- endset -%}
    {%- set total = exact_sum(expression, condition, over) -%}
    case
        when count({{ known or expression }}){{ rows }} = {{ of }}{{ rows }}
            then {% if empty is none %}{{ total }}{% else %}coalesce({{ total }}, {{ empty }}){% endif %}
    end
{%- endmacro %}

{# Mean of values that are all known, each as heavy as its weight. #}
{% macro weighted_mean(expression, weight) -%}
    {{ exact_sum("(" ~ expression ~ ") * " ~ weight) }} / {{ exact_sum(weight) }}
{%- endmacro %}

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

{# The day that a week begins on, of a model with one row per ISO week. #}
{% macro monday() -%} strptime(week || '-1', '%G-W%V-%u') {%- endmacro %}
