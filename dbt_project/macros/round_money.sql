{#
    An amount in whole cents, in decimal arithmetic. half_even rounds half a cent to the even cent, half_up away from
    zero. The amounts of a month's intervals, of nine decimals each, add up to an error of up to a few millionths:
    those are cut before half a cent is judged. The amount of one interval is exact to all of its `decimals`.
#}
{% macro round_money(amount, rounding, decimals=5) -%}
    {%- set decimal = "cast(" ~ amount ~ " as decimal(38, " ~ decimals ~ "))" -%}
    cast(
        case
            when {{ rounding }} = 'half_even' and abs({{ decimal }} * 100 % 1) = 0.5
                then round({{ decimal }} * 50, 0) * 0.02
            else round({{ decimal }}, 2)
        end as double
    )
{%- endmacro %}
