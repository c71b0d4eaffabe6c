{#
    Reporting currency per unit of a currency on a day, from a left join of stg_fx_rates as fx_rates on both. A day
    without a rate stops the build and is named: amounts in that currency would silently be missing.
#}
{% macro exchange_rate(currency_code, utc_date) -%}
    case
        when {{ currency_code }} is null then null
        when fx_rates.rate_to_reporting is not null then fx_rates.rate_to_reporting
        else error(
            'data/reference/fx_rates.csv: found no ' || {{ currency_code }} || ' rate for ' || {{ utc_date }}
            || ', expected one for every day with amounts in it: add it and build again'
        )
    end
{%- endmacro %}
