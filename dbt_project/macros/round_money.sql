{#
    An amount in whole cents, in decimal arithmetic. half_even rounds half a cent to the even cent, half_up away from
    zero. The amounts of a month's intervals, of nine decimals each, add up to an error of up to a few millionths:
    those are cut before half a cent is judged.
#}
{% macro round_money(amount, rounding) -%}
    {%- set decimal = "cast(" ~ amount ~ " as decimal(38, 5))" -%}
    cast(
        case
            when {{ rounding }} = 'half_even' and abs({{ decimal }} * 100 % 1) = 0.5
                then round({{ decimal }} * 50, 0) * 0.02
            else round({{ decimal }}, 2)
        end as double
    )
{%- endmacro %}
