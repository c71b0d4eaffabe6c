{# A move that saves less a week is not worth the meeting. #}
{% set least_saving = 100 %}
{# Nor one that saves less and avoids less CO2e a week. #}
{% set least_saved_kg = 5000 %}

{# The order of proposals: what saves money before what only avoids CO2e. #}
{% set most_worth = "greatest(weekly_value, "
    ~ least_saving ~ ") desc, weekly_saved_location_based_kg desc nulls last" %}

with

options as (

    select
        *,
        count(*) filter (where is_current and venue_kind = 'public_cloud') over (partition by week, workload_id)
        > cast(is_current and venue_kind = 'public_cloud' as integer) as is_from_cloud
    from {{ ref("fct_placement_options") }}

),

-- Work that may run elsewhere, and work that may wait where it runs, by the delay that is worth most.
changes as (

    select
        week,
        'venue' as change,
        workload_id,
        site_id,
        from_site_ids,
        is_from_cloud,
        cast(null as bigint) as delay_hours,
        movable_gpu_hours as gpu_hours,
        spare_gpu_hours,
        move_saving_value as weekly_value,
        move_saved_location_based_kg as weekly_saved_location_based_kg,
        coverage_ratio,
        currency_code
    from options
    where
        is_allowed
        and movable_gpu_hours > 0

    union all

    select
        week,
        'hour' as change,
        workload_id,
        site_id,
        from_site_ids,
        false as is_from_cloud,
        best_delay_hours as delay_hours,
        delayed_gpu_hours as gpu_hours,
        spare_gpu_hours,
        delay_saving_value as weekly_value,
        delay_saved_location_based_kg as weekly_saved_location_based_kg,
        delay_coverage_ratio as coverage_ratio,
        currency_code
    from options

),

-- cheaper_venue, cheaper_hour, and where it is not cheaper at a bearable cost per tonne cleaner_venue, cleaner_hour.
worthwhile as (

    select
        *,
        case when weekly_value >= {{ least_saving }} then 'cheaper_' else 'cleaner_' end || change as rule_id
    from changes
    where
        weekly_value >= {{ least_saving }}
        or (
            weekly_saved_location_based_kg >= {{ least_saved_kg }}
            and -weekly_value <= weekly_saved_location_based_kg / 1000 * {{ highest_cost_per_tonne() }}
        )

),

-- Of each workload the proposal that saves most, or else avoids most CO2e: its GPU-hours move once.
best as (

    select *
    from worthwhile
    qualify row_number() over (partition by week, workload_id order by {{ most_worth }}, site_id, rule_id) = 1

),

-- A venue has its free GPU-hours to give once: of a later proposal to it stands what the earlier ones leave.
claims as (

    select
        *,
        {{ exact_sum(
            "gpu_hours",
            over="(partition by week, site_id order by " ~ most_worth ~ ", workload_id"
            ~ " rows between unbounded preceding and 1 preceding)"
        ) }} as earlier_gpu_hours,
        case
            when earlier_gpu_hours is null then 1
            else least((spare_gpu_hours - earlier_gpu_hours) / gpu_hours, 1)
        end as left_ratio
    from best

),

proposals as (

    select
        * replace (
            gpu_hours * left_ratio as gpu_hours,
            weekly_value * left_ratio as weekly_value,
            weekly_saved_location_based_kg * left_ratio as weekly_saved_location_based_kg
        )
    from claims
    where
        (earlier_gpu_hours is null or spare_gpu_hours > earlier_gpu_hours)
        and (
            weekly_saved_location_based_kg * left_ratio >= {{ least_saved_kg }}
            or weekly_value * left_ratio >= {{ least_saving }}
        )

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
                || ' later, whenever that is cheaper with CO2e at {{ highest_cost_per_tonne() }} '
                || currency_code || ' a tonne'
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
    case when weekly_value > 0 then weekly_value end as weekly_inaction_cost,
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
