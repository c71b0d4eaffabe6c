{# A move that saves less a week is not worth the meeting. #}
{% set least_saving = 100 %}
{# What avoiding a tonne of CO2e may cost. #}
{% set highest_cost_per_tonne = 150 %}

with

weeks as (

    select *
    from {{ ref("int_weeks") }}

),

moves as (

    select
        weeks.week,
        weeks.currency_code,
        options.workload_id,
        options.site_id,
        options.from_site_ids,
        options.movable_gpu_hours,
        options.saving_value,
        options.saved_location_based_kg,
        options.coverage_ratio
    from weeks
    inner join {{ ref("fct_placement_options") }} as options on weeks.week = options.week
    where
        options.is_allowed
        and options.movable_gpu_hours > 0

),

-- cheaper_venue: of each workload the venue that saves most.
cheaper_venue as (

    select
        *,
        'cheaper_venue' as rule_id,
        'Move up to ' || {{ in_words("movable_gpu_hours") }} || ' GPU-hours a week of ' || workload_id || ' from '
        || from_site_ids
        || ' to '
        || site_id
        || ', which saves '
        || {{ in_words("saving_value") }}
        || ' '
        || currency_code
        || case
            when saved_location_based_kg >= 0
                then ' and ' || {{ in_words("saved_location_based_kg / 1000", 1) }} || ' t CO2e.'
            when saved_location_based_kg < 0
                then ' but gives off ' || {{ in_words("-saved_location_based_kg / 1000", 1) }} || ' t CO2e more.'
            else '; what it does to CO2e is not known.'
        end as proposal
    from moves
    where saving_value >= {{ least_saving }}
    qualify row_number() over (partition by week, workload_id order by saving_value desc, site_id asc) = 1

),

-- cleaner_venue: of each workload the venue that avoids most CO2e at a bearable cost; what is cheaper too stands above.
cleaner_venue as (

    select
        *,
        'cleaner_venue' as rule_id,
        'Move up to ' || {{ in_words("movable_gpu_hours") }} || ' GPU-hours a week of ' || workload_id || ' from '
        || from_site_ids
        || ' to '
        || site_id
        || ', which avoids '
        || {{ in_words("saved_location_based_kg / 1000", 1) }}
        || ' t CO2e and costs ' || {{ in_words("-saving_value") }} || ' ' || currency_code || ' more.' as proposal
    from moves
    where
        saved_location_based_kg > 0
        and saving_value < {{ least_saving }}
        and -saving_value <= saved_location_based_kg / 1000 * {{ highest_cost_per_tonne }}
    qualify row_number() over (partition by week, workload_id order by saved_location_based_kg desc, site_id asc) = 1

)

{%- for rule in ["cheaper_venue", "cleaner_venue"] %}
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
    workload_id || ' would run {{ "cheaper" if rule == "cheaper_venue" else "cleaner" }} at ' || site_id as title,
    proposal,
    case rule_id
        when 'cheaper_venue'
            then
                'It goes on costing ' || {{ in_words("saving_value") }} || ' ' || currency_code
                || ' a week more than it need.'
        else
            'It goes on giving off ' || {{ in_words("saved_location_based_kg / 1000", 1) }}
            || ' t CO2e a week more than it need.'
    end as inaction,
    saving_value as value,
    case when saving_value > 0 then saving_value end as inaction_cost,
    cast(null as double) as capacity_mw,
    saved_location_based_kg as saved_kg,
    coverage_ratio,
    'select workload_id, site_id, is_current, is_allowed, refusal_reasons, movable_gpu_hours, saving_value,'
    || ' saved_location_based_kg, currency_code from marts.fct_placement_options where workload_id = '
    || {{ sql_literal("workload_id") }} || ' and week = ' || {{ sql_literal("week") }}
    || ' order by saving_value desc nulls last, site_id' as evidence_sql,
    false as is_confidential,
    currency_code
from {{ rule }}
{{ "union all" if not loop.last }}
{%- endfor %}
