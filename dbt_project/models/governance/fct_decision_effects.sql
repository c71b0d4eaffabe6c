{# The four weeks before a decision took effect, by weekday, are what would have been without it. #}
{% set weeks_before = 4 %}
{# Below this share of known days nothing can be told. #}
{% set least_coverage_ratio = 0.9 %}
{# From this share of the expected change on, the effect is as expected. #}
{% set as_expected_ratio = 0.75 %}

with

decisions as (

    select
        *,
        cast(strptime(review_week || '-7', '%G-W%V-%u') as date) as last_date
    from {{ source("raw", "decisions") }}

),

workload_days as (

    select *
    from {{ ref("fct_workload_energy") }}

),

book as (

    select max(local_date) as last_date
    from workload_days

),

measured as (

    select
        decisions.decision_id,
        days.local_date,
        decisions.effective_from,
        decisions.measure,
        case decisions.measure
            when 'energy_kwh_per_gpu_hour' then days.energy_kwh
            when 'market_valued_energy_cost_per_gpu_hour' then days.market_valued_energy_cost
            when 'location_based_g_per_gpu_hour' then days.location_based_kg * 1000
            when 'location_based_g_per_kwh' then days.location_based_kg * 1000
        end as amount,
        case
            when decisions.measure = 'location_based_g_per_kwh' then days.energy_kwh
            else days.metered_gpu_hours
        end as load_amount,
        days.coverage_ratio
    from decisions
    inner join workload_days as days
        on
            days.local_date >= decisions.effective_from - {{ 7 * weeks_before }}
            and decisions.last_date >= days.local_date
            and (decisions.workload_id is null or decisions.workload_id = days.workload_id)
            and (
                decisions.site_id is null
                or days.site_id = case
                    when decisions.effective_from <= days.local_date
                        then coalesce(decisions.to_site_id, decisions.site_id)
                    else decisions.site_id
                end
            )

),

-- Of a day what is known counts, as much as it is of the day.
days as (

    select
        decision_id,
        local_date,
        isodow(local_date) as weekday,
        local_date >= any_value(effective_from) as is_after,
        cast(floor((any_value(effective_from) - local_date - 1) / 7) as integer) as week_before,
        {{ exact_sum("amount", "load_amount is not null") }} as amount,
        {{ exact_sum("load_amount", "amount is not null") }} as load_amount,
        coalesce({{ exact_sum("coverage_ratio", "amount is not null and load_amount is not null") }}, 0)
        / count(coverage_ratio) as coverage_ratio
    from measured
    group by decision_id, local_date
    having {{ exact_sum("load_amount", "amount is not null") }} > 0

),

before_weeks as (

    select
        decision_id,
        week_before,
        {{ exact_sum("amount") }} / {{ exact_sum("load_amount") }} as week_value
    from days
    where not is_after
    group by decision_id, week_before

),

spreads as (

    select
        decision_id,
        count(week_value) as before_week_count,
        max(week_value) - min(week_value) as spread
    from before_weeks
    group by decision_id

),

before_weekdays as (

    select
        decision_id,
        weekday,
        {{ exact_sum("amount") }} / {{ exact_sum("load_amount") }} as weekday_value
    from days
    where not is_after
    group by decision_id, weekday

),

before_values as (

    select
        decision_id,
        {{ exact_sum("coverage_ratio") }} as known_days,
        {{ exact_sum("amount") }} / {{ exact_sum("load_amount") }} as before_value
    from days
    where not is_after
    group by decision_id

),

-- The load that was, at the ratio its weekdays had before.
after_values as (

    select
        days.decision_id,
        {{ exact_sum("days.coverage_ratio") }} as known_days,
        {{ exact_sum("days.amount") }} / {{ exact_sum("days.load_amount") }} as measured_value,
        {{ exact_sum("days.load_amount * before_weekdays.weekday_value") }} / {{ exact_sum("days.load_amount") }}
            as counterfactual_value
    from days
    inner join before_weekdays
        on
            days.decision_id = before_weekdays.decision_id
            and days.weekday = before_weekdays.weekday
    where days.is_after
    group by days.decision_id

),

-- Work not done under a power limit that was decided, since then.
limited as (

    select
        slowed.decision_id,
        {{ sum_if_all_known("slowed.lost_gpu_hours") }} as lost_gpu_hours,
        {{ sum_if_all_known(
            "slowed.lost_gpu_hours * workloads.value_per_lost_gpu_hour"
        ) }} as lost_value
    from {{ ref("calc_slowed_work") }} as slowed
    left join {{ source("raw", "workloads") }} as workloads on slowed.workload_id = workloads.workload_id
    where slowed.decision_id is not null
    group by slowed.decision_id

),

compared as (

    select
        decisions.*,
        {%- for loss in ["lost_gpu_hours", "lost_value"] %}
        case
            when limited.decision_id is not null then round(limited.{{ loss }}, 6)
            when decisions.power_limit_ratio is not null then 0
        end as power_limit_{{ loss }},
        {%- endfor %}
        book.last_date as book_last_date,
        round(before_values.before_value, 9) as before_value,
        coalesce(spreads.before_week_count, 0) as before_week_count,
        spreads.spread,
        round(after_values.counterfactual_value, 9) as counterfactual_value,
        round(after_values.measured_value, 9) as measured_value,
        round(after_values.measured_value - after_values.counterfactual_value, 9) as measured_change,
        (coalesce(before_values.known_days, 0) + coalesce(after_values.known_days, 0))
        / ({{ 7 * weeks_before }} + decisions.last_date - decisions.effective_from + 1) as coverage_ratio,
        organization.reporting_currency as currency_code
    from decisions
    cross join book
    cross join {{ source("raw", "organization") }} as organization
    left join before_values on decisions.decision_id = before_values.decision_id
    left join after_values on decisions.decision_id = after_values.decision_id
    left join spreads on decisions.decision_id = spreads.decision_id
    left join limited on decisions.decision_id = limited.decision_id

),

-- The book's last day may not be whole.
judged as (

    select
        *,
        case
            when book_last_date is null or book_last_date <= last_date then 'too_early'
            when before_week_count < {{ weeks_before }} then 'cannot_tell'
            when coverage_ratio < {{ least_coverage_ratio }} or measured_change is null then 'cannot_tell'
            when abs(measured_change) <= spread and abs(expected_change) <= spread then 'cannot_tell'
            when abs(measured_change) <= spread then 'no_effect'
            when sign(measured_change) <> sign(expected_change) then 'opposite'
            when measured_change / expected_change >= {{ as_expected_ratio }} then 'as_expected'
            else 'partly'
        end as effect_status
    from compared

)

select
    decision_id,
    title,
    kind,
    decided_on,
    decided_by,
    week as meeting_week,
    effective_from,
    review_week,
    site_id,
    workload_id,
    to_site_id,
    agenda_proposal_id,
    measure,
    case measure
        when 'energy_kwh_per_gpu_hour' then 'kWh/GPU-hour'
        when 'market_valued_energy_cost_per_gpu_hour' then currency_code || '/GPU-hour'
        when 'location_based_g_per_gpu_hour' then 'g/GPU-hour'
        when 'location_based_g_per_kwh' then 'g/kWh'
    end as unit,
    before_value,
    before_week_count,
    counterfactual_value,
    measured_value,
    expected_change,
    measured_change,
    power_limit_lost_gpu_hours,
    power_limit_lost_value,
    effect_status,
    case
        when effect_status = 'too_early' then 'The review week ' || review_week || ' is not over yet.'
        when effect_status = 'cannot_tell' and before_week_count < {{ weeks_before }}
            then
                'Only '
                || before_week_count
                || ' of the {{ weeks_before }} weeks before are known, too few to compare with.'
        when effect_status = 'cannot_tell' and (coverage_ratio < {{ least_coverage_ratio }} or measured_change is null)
            then 'Only ' || {{ in_percent("coverage_ratio") }} || ' of the days are known.'
        when effect_status = 'cannot_tell'
            then
                'Weeks before differed by '
                || {{ in_words("spread", 3) }}
                || ', more than the change that was expected.'
        when effect_status = 'no_effect'
            then
                'It changed by ' || {{ in_words("measured_change", 3) }} || ', less than weeks before differed ('
                || {{ in_words("spread", 3) }} || ').'
        else
            'It changed by '
            || {{ in_words("measured_change", 3) }}
            || ' where '
            || {{ in_words("expected_change", 3) }}
            || ' was expected; weeks before differed by ' || {{ in_words("spread", 3) }} || '.'
    end
    || case
        when power_limit_ratio is null or power_limit_lost_gpu_hours = 0 then ''
        when power_limit_lost_gpu_hours is null then ' What work its power limit took is not known.'
        else
            ' Its power limit took ' || {{ in_words("power_limit_lost_gpu_hours") }} || ' GPU-hours of work'
            || coalesce(', worth ' || {{ in_words("power_limit_lost_value") }} || ' ' || currency_code, '') || '.'
    end as reason,
    coverage_ratio,
    currency_code
from judged
