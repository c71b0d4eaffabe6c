{#
    What the meters of a site count, role by role. A flow no meter is declared for does not exist at the site; a load
    without meter is not known. The rows of `energy_kwh` and `role` are those of all declared meters, read or not.
#}
{% macro meter_roles() %}
    {{ return({
        "grid_import": none,
        "grid_export": 0,
        "onsite_generation": 0,
        "battery_charge": 0,
        "battery_discharge": 0,
        "it_load": none,
        "cooling_load": none,
        "facility_total": none,
    }) }}
{% endmacro %}

{# What a site takes in for itself, of the columns of its roles. #}
{% macro taken_in() -%}
    grid_import_kwh + onsite_generation_kwh + battery_discharge_kwh - battery_charge_kwh - grid_export_kwh
{%- endmacro %}

{% macro role_energies(energy="energy_kwh") -%}
    {% for role, otherwise in meter_roles().items() -%}
    {{ sum_if_all_known(energy, condition="role = '" ~ role ~ "'", empty=otherwise) }} as {{ role }}_kwh
    {{- "," if not loop.last }}
    {% endfor -%}
{%- endmacro %}
