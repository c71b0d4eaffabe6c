{# Rows of `int_clean_volumes` that count: one without its reading adds to neither side. #}
{% macro known_volumes() -%} grid_import_kwh is not null and clean_kwh is not null {%- endmacro %}

{# A site's part of a pool that its zone's sites share in proportion to what they need, at most what it needs. #}
{% macro pro_rata_kwh(need, zone_need, pool) -%}
    case when {{ zone_need }} <= {{ pool }} then {{ need }} else {{ need }} / {{ zone_need }} * {{ pool }} end
{%- endmacro %}

{# What the sites of a zone leave of a claim in its hour: all of it unless it is one of an hour. #}
{% macro left_of_hour_kwh() -%}
    round(
        claims.energy_kwh
        * case
            when zone_hours.certificate_kwh is null then 1
            else greatest(0, 1 - zone_hours.certificate_kwh / claims.hour_pool_kwh)
        end, 6
    )
{%- endmacro %}
