{# Below this share known, a figure is not one to act on. #}
{% set trusted_coverage_ratio = 0.95 %}
{# Above this share estimated, likewise. #}
{% set trusted_estimated_ratio = 0.05 %}

with

weeks as (

    select *
    from {{ ref("calc_weeks") }}

),

-- untrusted_source
source_weeks as (

    select
        weeks.week,
        quality.source_table,
        any_value(weeks.monday_date) as monday_date,
        any_value(weeks.currency_code) as currency_code,
        {{ mean_of("quality.coverage_ratio") }} as coverage_ratio,
        sum(quality.row_count) as row_count,
        sum(quality.estimated_row_count) as estimated_row_count,
        sum(quality.quarantined_row_count) as quarantined_row_count,
        sum(quality.failed_file_count) as failed_file_count
    from weeks
    inner join {{ ref("fct_data_quality") }} as quality
        on
            weeks.monday_date <= quality.utc_date
            and quality.utc_date < weeks.monday_date + 7
    group by weeks.week, quality.source_table

),

-- One that goes on is of every week since; what is used by nothing makes no figure doubtful.
source_findings as (

    select
        weeks.week,
        findings.source_table,
        count(*) as finding_count
    from weeks
    inner join {{ ref("fct_findings") }} as findings
        on
            weeks.ended_at > findings.started_at
            and (findings.ended_at is null or weeks.started_at < findings.ended_at)
            and findings.rule_id <> 'price_unused'
    group by weeks.week, findings.source_table

),

sources as (

    select
        source_weeks.*,
        source_findings.finding_count
    from source_weeks
    left join source_findings
        on
            source_weeks.week = source_findings.week
            and source_weeks.source_table = source_findings.source_table

),

poor_sources as (

    select
        *,
        replace(source_table, '_', ' ') as source_name,
        concat_ws(
            ', ',
            case
                when coverage_ratio < {{ trusted_coverage_ratio }}
                    then {{ in_percent("coverage_ratio") }} || ' of what should be there is'
            end,
            case when quarantined_row_count > 0 then quarantined_row_count || ' rows refused' end,
            case when failed_file_count > 0 then failed_file_count || ' files unreadable' end,
            case
                when finding_count > 0
                    then finding_count || case when finding_count = 1 then ' finding' else ' findings' end
            end,
            case
                when estimated_row_count > {{ trusted_estimated_ratio }} * row_count
                    then estimated_row_count || ' rows estimated'
            end
        ) as faults
    from sources
    where
        coverage_ratio < {{ trusted_coverage_ratio }}
        or quarantined_row_count > 0
        or failed_file_count > 0
        or finding_count > 0
        or estimated_row_count > {{ trusted_estimated_ratio }} * row_count

),

untrusted_source as (

    select
        week,
        'untrusted_source' as rule_id,
        'sources' as subject,
        cast(null as varchar) as site_id,
        'Figures from ' || string_agg(source_name, ', ' order by source_name) || ' are not to be relied on' as title,
        'Get, load or mend what is missing or wrong: '
        || string_agg(source_name || ' (' || faults || ')', '; ' order by source_name) || '.' as proposal,
        min(coverage_ratio) as coverage_ratio,
        'select * from marts.fct_data_quality where source_table in ('
        || string_agg({{ sql_literal("source_table") }}, ', ' order by source_table)
        || ') and utc_date >= ' || {{ sql_literal("any_value(monday_date)") }}
        || ' and utc_date < ' || {{ sql_literal("any_value(monday_date) + 7") }}
        || ' order by source_table, utc_date' as evidence_sql,
        any_value(currency_code) as currency_code
    from poor_sources
    group by week

),

-- untrusted_kpis: what a site never has is no gap.
expected_kpis as (

    select distinct
        site_id,
        kpi_id
    from {{ ref("governance_scorecard") }}
    where
        scope = 'site'
        and kpi_value is not null

),

poor_kpis as (

    select
        scorecard.week,
        scorecard.site_id,
        min(scorecard.coverage_ratio) as coverage_ratio
    from {{ ref("governance_scorecard") }} as scorecard
    inner join expected_kpis
        on
            scorecard.site_id = expected_kpis.site_id
            and scorecard.kpi_id = expected_kpis.kpi_id
    where scorecard.coverage_ratio < {{ trusted_coverage_ratio }}
    group by scorecard.week, scorecard.site_id

),

untrusted_kpis as (

    select
        poor_kpis.week,
        'untrusted_kpis' as rule_id,
        'scorecard' as subject,
        cast(null as varchar) as site_id,
        'KPIs of ' || count(*) || case when count(*) = 1 then ' site' else ' sites' end || ' are known in part only'
            as title,
        'Take no decision from these sites'' KPIs before the week is complete: '
        || string_agg(
            poor_kpis.site_id || ' (' || {{ in_percent("poor_kpis.coverage_ratio") }} || ' known)', ', '
            order by poor_kpis.site_id
        ) || '.' as proposal,
        min(poor_kpis.coverage_ratio) as coverage_ratio,
        'select site_id, kpi_name, kpi_value, unit, coverage_ratio from marts.governance_scorecard where week = '
        || {{ sql_literal("poor_kpis.week") }} || ' and site_id in ('
        || string_agg({{ sql_literal("poor_kpis.site_id") }}, ', ' order by poor_kpis.site_id)
        || ') and coverage_ratio < {{ trusted_coverage_ratio }} order by site_id, rank' as evidence_sql,
        any_value(weeks.currency_code) as currency_code
    from poor_kpis
    inner join weeks on poor_kpis.week = weeks.week
    group by poor_kpis.week

)

{{ proposals_of(
    ["untrusted_source", "untrusted_kpis"],
    {
        "kind": "'data'",
        "owner": "'infra'",
        "workload_id": "cast(null as varchar)",
        "contract_id": "cast(null as varchar)",
        "incident_id": "cast(null as varchar)",
        "inaction": "'Decisions rest on figures that may change once the rest arrives.'",
        "weekly_value": "cast(null as double)",
        "capacity_mw": "cast(null as double)",
        "weekly_saved_location_based_kg": "cast(null as double)",
        "is_confidential": "false",
    },
) }}
