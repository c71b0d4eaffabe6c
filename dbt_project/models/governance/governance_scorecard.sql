{# A week of which less is known is shown, but neither judged nor compared with. #}
{% set minimum_coverage_ratio = 0.5 %}
{% set compared_weeks = 8 %}

{# Columns of the weekly KPI tables that the KPIs read. #}
{% set columns = [] %}
{% for kpi in var("kpis") %}
{% set basis = [kpi.basis_column] if kpi.basis_column else [] %}
{% for column in [kpi.value_column] + kpi.coverage_columns + basis if column not in columns %}
{% do columns.append(column) %}
{% endfor %}
{% endfor %}

with

site_weeks as (

    select *
    from {{ ref("kpi_site_weekly") }}

),

organization_weeks as (

    select *
    from {{ ref("kpi_organization_weekly") }}

),

organization as (

    select *
    from {{ source("raw", "organization") }}

),

-- A week in which nothing at all was received has its rows too.
mondays as (

    select
        unnest(
            generate_series(
                min(strptime(week || '-1', '%G-W%V-%u')), max(strptime(week || '-1', '%G-W%V-%u')), interval 7 days
            )
        ) as monday_at
    from organization_weeks

),

scopes as (

    select distinct
        'site' as scope,
        site_id
    from {{ source("raw", "sites") }}

    union all

    select
        'organization' as scope,
        cast(null as varchar) as site_id

),

figures as (

    select
        'site' as scope,
        site_id,
        week,
        {{ columns | join(",\n        ") }}
    from site_weeks

    union all

    select
        'organization' as scope,
        cast(null as varchar) as site_id,
        week,
        {{ columns | join(",\n        ") }}
    from organization_weeks

),

kpis as (

    {%- for kpi in var("kpis") %}
    select
        {{ loop.index }} as rank,
        '{{ kpi.kpi_id }}' as kpi_id,
        '{{ kpi.name }}' as kpi_name,
        {{ "'" ~ kpi.unit ~ "'" if kpi.unit else "null" }} as unit
    {{ "union all" if not loop.last }}
    {%- endfor %}

),

valued as (

    select
        {{ iso_week("mondays.monday_at") }} as week,
        mondays.monday_at,
        scopes.scope,
        scopes.site_id,
        kpis.rank,
        kpis.kpi_id,
        kpis.kpi_name,
        coalesce(kpis.unit, organization.reporting_currency || '/GPU-hour') as unit,
        case kpis.kpi_id
            {%- for kpi in var("kpis") %}
            when '{{ kpi.kpi_id }}' then figures.{{ kpi.value_column }}
            {%- endfor %}
        end as kpi_value,
        coalesce(
            case kpis.kpi_id
                {%- for kpi in var("kpis") %}
                when '{{ kpi.kpi_id }}' then {{ kpi.coverage_columns | join(" * ") }}
                {%- endfor %}
            end, 0
        ) as coverage_ratio,
        case kpis.kpi_id
            {%- for kpi in var("kpis") %}
            when '{{ kpi.kpi_id }}' then round({{ kpi.basis_column or "cast(null as double)" }}, 2)
            {%- endfor %}
        end as basis_ratio,
        case when kpis.unit is null then organization.reporting_currency end as currency_code
    from mondays
    cross join scopes
    cross join kpis
    cross join organization
    left join figures
        on
            figures.week = {{ iso_week("mondays.monday_at") }}
            and scopes.scope = figures.scope
            and scopes.site_id is not distinct from figures.site_id

),

-- What was not watched is not known to be free of incidents.
known as (

    select
        * exclude (kpi_value, coverage_ratio),
        case when coverage_ratio > 0 then kpi_value end as kpi_value,
        case when kpi_value is null then 0 else coverage_ratio end as coverage_ratio,
        case when coverage_ratio >= {{ minimum_coverage_ratio }} then kpi_value end as comparable_value
    from valued

),

compared as (

    select
        *,
        max(comparable_value) over week_before as previous_value,
        min(comparable_value) over weeks_before as lowest_8_weeks_value,
        max(comparable_value) over weeks_before as highest_8_weeks_value,
        count(comparable_value) over weeks_before as week_count,
        count(kpi_value) over (partition by scope, site_id, kpi_id) > 0 as is_ever_known
    from known
    window
        week_before as (
            partition by scope, site_id, kpi_id, basis_ratio
            order by monday_at
            range between interval 7 days preceding and interval 7 days preceding
        ),
        weeks_before as (
            partition by scope, site_id, kpi_id, basis_ratio
            order by monday_at
            range between interval {{ 7 * compared_weeks }} days preceding and interval 7 days preceding
        )

),

-- A site's own target comes before the one for all, which is none for what a site never has.
targeted as (

    select
        compared.*,
        coalesce(own.target, general.target) as target_value,
        coalesce(own.direction, general.direction) as direction
    from compared
    left join {{ source("raw", "targets") }} as own
        on
            compared.kpi_id = own.kpi_id
            and compared.site_id = own.site_id
    left join {{ source("raw", "targets") }} as general
        on
            compared.kpi_id = general.kpi_id
            and general.site_id is null
            and (compared.scope = 'organization' or compared.is_ever_known)

)

select
    week,
    scope,
    site_id,
    rank,
    kpi_id,
    kpi_name,
    unit,
    kpi_value,
    target_value,
    direction,
    case
        when target_value is null then 'no_target'
        when comparable_value is null then 'unknown'
        when direction = 'at_least' and comparable_value >= target_value then 'met'
        when direction = 'at_most' and comparable_value <= target_value then 'met'
        else 'missed'
    end as target_status,
    previous_value,
    lowest_8_weeks_value,
    highest_8_weeks_value,
    week_count,
    coverage_ratio,
    currency_code
from targeted
