-- Returns KPIs of a site and week that are absent or known in part without a reason in kpi_gaps, and those that are
-- known in the whole week and have one that is more than narrowing.
with

kpis as (

    {% for kpi in var("kpis") | selectattr("is_headline") -%}
    select
        scorecard.site_id,
        scorecard.week,
        '{{ kpi.kpi_id }}' as kpi_id,
        weekly.{{ kpi.value_column }} is not null
        and coalesce({{ "weekly." ~ kpi.coverage_columns | join(" * weekly.") }}, 0) >= 1 as is_whole
    from {{ ref("governance_scorecard") }} as scorecard
    left join {{ ref("kpi_site_weekly") }} as weekly
        on
            scorecard.site_id = weekly.site_id
            and scorecard.week = weekly.week
    where
        scorecard.scope = 'site'
        and scorecard.kpi_id = '{{ kpi.kpi_id }}'
        and {{ in_build_weeks("scorecard.week") }}
    {{ "union all" if not loop.last }}
    {% endfor %}

),

reasons as (

    select distinct
        site_id,
        week,
        kpi_id
    from {{ ref("kpi_gaps") }}
    where
        effect <> 'narrowed'
        and {{ in_build_weeks() }}

)

select kpis.*
from kpis
left join reasons
    on
        kpis.site_id = reasons.site_id
        and kpis.week = reasons.week
        and kpis.kpi_id = reasons.kpi_id
where kpis.is_whole = (reasons.site_id is not null)
