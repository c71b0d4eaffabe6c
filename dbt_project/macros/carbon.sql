{# Share of imported energy matched by clean energy, never above 1; 0 where nothing was imported. #}
{% macro clean_share_ratio(sums) -%}
    case
        when {{ sums }}.import_kwh = 0 then 0
        when {{ sums }}.clean_kwh >= {{ sums }}.import_kwh then 1
        else {{ sums }}.clean_kwh / {{ sums }}.import_kwh
    end
{%- endmacro %}

{# A product that is 0 where its first factor is 0: nothing used gives off nothing, known factor or not. #}
{% macro used_times(used, factor) -%}
    case when {{ used }} = 0 then 0 else {{ used }} * {{ factor }} end
{%- endmacro %}

{# Whether a source of energy is renewable; nuclear power is carbon-free and not renewable. #}
{% macro is_renewable(energy_source) -%} {{ energy_source }} in ('solar', 'wind', 'hydro', 'geothermal', 'biomass') {%- endmacro %}
