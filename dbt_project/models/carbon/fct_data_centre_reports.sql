{# Field, point of the annexes, name, unit, what is reported: a figure with its own coverage, or a fact. #}
{% set facility = "fct_energy_balance: facility meter" %}
{% set figures = [
    ("pdit", "II.1(a)", "Installed IT power demand, PDIT (rated power of the machines)", "kW", "installed_it_kw",
        "installed_it_coverage_ratio", "reference/sites: terms.it_capacity_mw, weighted by time"),
    ("edc", "II.1(d)", "Total energy consumption, EDC", "kWh", "total_energy_kwh", "total_energy_coverage_ratio",
        facility),
    ("edc_bg", "II.1(d)", "Of that from back-up generators, EDC-BG", "kWh", "backup_energy_kwh",
        "backup_energy_coverage_ratio", "int_meter_readings: on-site generation from oil or gas"),
    ("eit", "II.1(e)", "Energy consumption of IT equipment, EIT", "kWh", "it_energy_kwh", "it_energy_coverage_ratio",
        "fct_energy_balance: IT meter"),
    ("eres_tot", "II.1(o)", "Total renewable energy consumption, ERES-TOT", "kWh", "renewable_kwh",
        "renewable_coverage_ratio", "sum of ERES-GOO, ERES-PPA and ERES-OS"),
    ("eres_goo", "II.1(p)", "Of that from guarantees of origin, ERES-GOO", "kWh", "certificate_kwh",
        "certificate_coverage_ratio", "fct_certificate_assignments: renewable, retired, assigned to the site"),
    ("eres_ppa", "II.1(q)", "Of that from power purchase agreements, ERES-PPA", "kWh", "agreement_kwh",
        "agreement_coverage_ratio", "int_contract_volumes: renewable with certificates, within the supply from the grid"),
    ("eres_os", "II.1(r)", "Of that from on-site renewables, ERES-OS", "kWh", "own_renewable_kwh",
        "own_renewable_coverage_ratio", "int_meter_readings: renewable on-site generation less what was exported"),
    ("pue", "III(a)", "Power usage effectiveness, PUE", "ratio", "pue_ratio", "pue_coverage_ratio", "EDC / EIT"),
    ("ref", "III(d)", "Renewable energy factor, REF", "ratio", "ref_ratio", "ref_coverage_ratio", "ERES-TOT / EDC"),
] %}
{% set facts = [
    ("sdc", "II.1(b)", "Total floor area, SDC", "m²", "total_floor_area_m2"),
    ("scr", "II.1(c)", "Computer room floor area, SCR", "m²", "computer_room_area_m2"),
    ("cbtg", "II.1(g)", "Average battery capacity offered to the grid, CBtG", "kW", "battery_offered_kw"),
    ("win", "II.1(h)", "Total water input, WIN", "m³", "water_input_m3"),
    ("win_pot", "II.1(i)", "Of that potable water, WIN-POT", "m³", "potable_water_input_m3"),
    ("ereuse", "II.1(j)", "Waste heat reused, EREUSE", "kWh", "waste_heat_reused_kwh"),
    ("twh", "II.1(k)", "Average waste heat temperature, TWH", "°C", "waste_heat_celsius"),
    ("tin", "II.1(l)", "Average set point of IT intake air temperature, TIN", "°C", "intake_setpoint_celsius"),
    ("cdd", "II.1(n)", "Cooling degree days above 21 °C, CDD", "degree-day", "cooling_degree_days"),
    ("cserv", "II.2(a)", "ICT capacity of servers, CSERV", "SERT", "server_capacity_sert"),
    ("cstor", "II.2(b)", "ICT capacity of storage, CSTOR", "PB", "storage_capacity_pb"),
    ("bin", "II.3(a)", "Incoming traffic bandwidth, BIN", "GB/s", "incoming_bandwidth_gb_per_s"),
    ("bout", "II.3(b)", "Outgoing traffic bandwidth, BOUT", "GB/s", "outgoing_bandwidth_gb_per_s"),
    ("traffic_in", "II.3(c)", "Incoming data traffic, TIN", "EB", "incoming_traffic_eb"),
    ("traffic_out", "II.3(d)", "Outgoing data traffic, TOUT", "EB", "outgoing_traffic_eb"),
] %}
{% set texts = [
    ("name", "I.1(a)", "Name", "name"),
    ("operator", "I.1(b)", "Owner and operator", "operator"),
    ("location", "I.1(c)", "Location, LAU code", "lau_code"),
    ("type", "I.1(d)", "Type of data centre", "data_centre_type"),
    ("in_operation_since", "I.1(e)", "Month of entry into operation", "in_operation_since"),
    ("electrical_redundancy", "I.2(a)", "Electrical redundancy", "electrical_redundancy"),
    ("cooling_redundancy", "I.2(b)", "Cooling redundancy", "cooling_redundancy"),
    ("grid_functions", "II.1(f)", "Electrical grid functions", "grid_functions"),
    ("refrigerants", "II.1(m)", "Types of refrigerants", "refrigerants"),
] %}
{# A figure of the whole year over one that the meters count. #}
{% set quotients = [
    ("wue", "III(b)", "Water usage effectiveness, WUE", "m³/MWh", "wue_m3_per_mwh", "it_energy", "water_input_m3",
        "WIN / EIT"),
    ("erf", "III(c)", "Energy reuse factor, ERF", "ratio", "erf_ratio", "total_energy", "waste_heat_reused_kwh",
        "EREUSE / EDC"),
] %}

with

fields as (

    {% for id, annex, name, unit, column, coverage, origin in figures %}
    {% set missing = "'no interval of the year has a reading for it'" %}
    {{ report_field(id, annex, name, origin, coverage, missing, column, unit) }}
    union all
    {% endfor %}
    {% for id, annex, name, unit, column, base, fact, origin in quotients %}
    {% set missing %}
        case
            when {{ fact }} is null then {{ not_given_reason(fact) }}
            else
                'its {{ fact }} is that of the whole year, of which the meters cover '
                || round({{ base }}_coverage_ratio * 100, 1) || ' %'
        end
    {% endset %}
    {{ report_field(id, annex, name, origin, base ~ "_coverage_ratio", missing, column, unit) }}
    union all
    {% endfor %}
    {% for id, annex, name, unit, column in facts %}
    {% set origin = "reference/sites: data_centre_years." ~ column %}
    {{ report_field(id, annex, name, origin, given_coverage(column), not_given_reason(column), column, unit) }}
    union all
    {% endfor %}
    {% for id, annex, name, column in texts %}
    {% set origin = "reference/sites: " ~ ("data_centre_years." if column != "name" else "") ~ column %}
    {{ report_field(id, annex, name, origin, given_coverage(column), not_given_reason(column), text=column) }}
    {{ "union all" if not loop.last }}
    {% endfor %}

)

select
    site_id,
    local_year,
    field_id,
    annex_reference,
    field_name,
    reported_quantity,
    reported_quantity_unit,
    value_text,
    field_source,
    coverage_ratio,
    missing_reason is not null as is_missing,
    missing_reason
from fields
