{#
    A price in the contract's currency: as the source gave it where it gave it in that currency, else over the
    reporting currency at the day's rate.
#}
{% macro in_contract_currency(source, source_currency, contract_currency, reported, exchange_rate) -%}
    case
        when {{ source_currency }} = {{ contract_currency }} then {{ source }}
        else {{ reported }} / {{ exchange_rate }}
    end
{%- endmacro %}

{# First day of the local month of an instant. #}
{% macro local_month_of(instant, time_zone) -%}
    cast(date_trunc('month', {{ instant }} at time zone {{ time_zone }}) as date)
{%- endmacro %}

{# Start of the settlement period of so many minutes that an instant lies in, or of the local month without minutes. #}
{% macro settlement_period_start(instant, time_zone, minutes) -%}
    coalesce(
        {{ period_start(instant, time_zone, minutes) }},
        cast({{ local_month_of(instant, time_zone) }} as timestamp) at time zone {{ time_zone }}
    )
{%- endmacro %}

{# Number of 15-minute intervals of a local month, so that months with a clock change come out right. #}
{% macro month_intervals(local_month, time_zone) -%}
    ({{ expected_intervals(
        "cast(" ~ local_month ~ " as timestamp)",
        "cast(" ~ local_month ~ " + interval 1 month as timestamp)",
        time_zone
    ) }})
{%- endmacro %}
