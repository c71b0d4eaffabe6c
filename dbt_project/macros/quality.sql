{# The worst quality of several readings, and so that of what is made of them; a reading without one was measured. #}
{% macro worst_quality(quality, condition="true") -%}
    case
        max(
            case {{ quality }} when 'missing' then 3 when 'estimated' then 2 when 'substituted' then 1 else 0 end
        ) filter (where {{ condition }})
        when 3 then 'missing' when 2 then 'estimated' when 1 then 'substituted' when 0 then 'measured'
    end
{%- endmacro %}
