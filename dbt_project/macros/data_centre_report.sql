{#
    What the fields of a data-centre report are written with; which fields there are stands in fct_data_centre_reports.

    One field of every year: a quantity or a text, and `missing`, which says why there is none.
#}
{% macro report_field(id, annex, name, origin, coverage, missing, quantity="null", unit="", text="null") %}
    select
        site_id,
        local_year,
        '{{ id }}' as field_id,
        '{{ annex }}' as annex_reference,
        '{{ name }}' as field_name,
        cast({{ quantity }} as double) as reported_quantity,
        nullif('{{ unit }}', '') as reported_quantity_unit,
        cast({{ text }} as varchar) as value_text,
        '{{ origin }}' as field_source,
        cast({{ coverage }} as double) as coverage_ratio,
        case when {{ text if quantity == "null" else quantity }} is null then {{ missing }} end as missing_reason
    from {{ ref("calc_data_centre_years") }}
{% endmacro %}

{# Why there is no figure that reference data gives for the whole year, and what it covers where there is. #}
{% macro not_given_reason(fact) -%} 'data_centre_years of the site gives no {{ fact }} for the year' {%- endmacro %}
{% macro given_coverage(fact) -%} case when {{ fact }} is not null then 1 end {%- endmacro %}
