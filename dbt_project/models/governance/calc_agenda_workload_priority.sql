with

-- What would fill a commitment that is paid for is proposed with that.
filled as (

    select
        week,
        site_id
    from {{ ref("calc_agenda_commitments") }}

),

proposals as (

    select
        moves.*,
        case when moves.weekly_value * 2 >= moves.weekly_worth then 'cheaper_' else 'cleaner_' end || moves.change
            as rule_id,
        organization.carbon_price_per_tonne
    from {{ ref("calc_agenda_moves") }} as moves
    cross join {{ source("raw", "organization") }} as organization
    anti join filled
        on
            moves.week = filled.week
            and moves.site_id = filled.site_id
            and moves.change = 'venue'

)

select
    week,
    rule_id,
    workload_id || ':' || site_id as subject,
    'workload_priority' as kind,
    'operations' as owner,
    site_id,
    workload_id,
    cast(null as varchar) as contract_id,
    cast(null as varchar) as incident_id,
    workload_id || ' would run '
    || case rule_id
        when 'cheaper_venue' then 'cheaper at ' || site_id
        when 'cleaner_venue' then 'cleaner at ' || site_id
        when 'cheaper_hour' then 'cheaper at ' || site_id || ' some hours later'
        when 'cleaner_hour' then 'cleaner at ' || site_id || ' some hours later'
    end as title,
    case
        when rule_id in ('cheaper_hour', 'cleaner_hour')
            then
                'Start up to ' || {{ in_words("gpu_hours") }} || ' GPU-hours a week of ' || workload_id || ' at '
                || site_id || ' ' || delay_hours || case when delay_hours = 1 then ' hour' else ' hours' end
                || ' later, whole jobs, where the same hours of the week before say that it pays with CO2e at '
                || {{ in_words("carbon_price_per_tonne") }} || ' ' || currency_code || ' a tonne'
        else
            'Move up to ' || {{ in_words("gpu_hours") }} || ' GPU-hours a week of ' || workload_id || ' from '
            || from_site_ids || ' to ' || site_id
            -- A cloud's commitment is paid for either way.
            || case when is_from_cloud then ', of a cloud only those on demand' else '' end
    end
    || case
        when rule_id in ('cleaner_venue', 'cleaner_hour')
            then
                ', which avoids ' || {{ in_words("weekly_saved_location_based_kg / 1000", 1) }} || ' t CO2e and '
                || case when weekly_value < 0 then 'costs ' else 'saves ' end
                || {{ in_words("abs(weekly_value)") }} || ' ' || currency_code || '.'
        when weekly_saved_location_based_kg >= 0
            then
                ', which saves ' || {{ in_words("weekly_value") }} || ' ' || currency_code || ' and '
                || {{ in_words("weekly_saved_location_based_kg / 1000", 1) }} || ' t CO2e.'
        when weekly_saved_location_based_kg < 0
            then
                ', which saves ' || {{ in_words("weekly_value") }} || ' ' || currency_code || ' but gives off '
                || {{ in_words("-weekly_saved_location_based_kg / 1000", 1) }} || ' t CO2e more.'
        else
            ', which saves ' || {{ in_words("weekly_value") }} || ' ' || currency_code
            || '; what it does to CO2e is not known.'
    end as proposal,
    case
        when rule_id in ('cleaner_venue', 'cleaner_hour')
            then
                'It goes on giving off ' || {{ in_words("weekly_saved_location_based_kg / 1000", 1) }}
                || ' t CO2e a week more than it need.'
        else
            'It goes on costing ' || {{ in_words("weekly_value") }} || ' ' || currency_code
            || ' a week more than it need.'
    end as inaction,
    weekly_value,
    cast(null as double) as capacity_mw,
    weekly_saved_location_based_kg,
    coverage_ratio,
    'select workload_id, site_id, is_current, is_allowed, refusal_reasons, movable_gpu_hours, move_saving_value,'
    || ' move_saved_location_based_kg, best_delay_hours, delayed_gpu_hours, delay_saving_value,'
    || ' delay_saved_location_based_kg, currency_code from marts.fct_placement_options where workload_id = '
    || {{ sql_literal("workload_id") }} || ' and week = ' || {{ sql_literal("week") }}
    || ' order by move_saving_value desc nulls last, site_id' as evidence_sql,
    false as is_confidential,
    currency_code
from proposals
