{#
    Share of what was generated or discharged that served the load, from the energy balance `balance`; the rest charged
    batteries or was exported. Of nothing, nothing served.
#}
{% macro to_load_ratio(source_kind, balance="balance") -%}
    {%- set served, given = {
        "generation": ("local_generation_kwh", "onsite_generation_kwh"),
        "battery": ("local_battery_kwh", "battery_discharge_kwh"),
    }[source_kind] -%}
    case when {{ balance }}.{{ given }} = 0 then 0 else {{ balance }}.{{ served }} / {{ balance }}.{{ given }} end
{%- endmacro %}
